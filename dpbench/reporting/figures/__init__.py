"""The figures: a file each, which exports a `FigureSpec` as `SPEC`. README.md says how to add one.

Colours are seaborn's colour-blind palette, and levels differ also by marker. No panel holds more
than six lines, and no row more than three panels.
"""
