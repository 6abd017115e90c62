"""Comparison of two stores: differences, which of them are regressions, and what was checked."""
