"""Runs a sweep: its grid, its processes or its cluster, and what each trial leaves."""
