"""Measures steps: their time beside the non-private step, their memory, and where that was."""
