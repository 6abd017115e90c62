"""Processes that may die, and the signals that they get."""
