"""Trials in processes that may die: who runs what, and what becomes of it."""
