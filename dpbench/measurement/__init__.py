"""Measurements of steps: time against the non-private step, memory, and the environment."""
