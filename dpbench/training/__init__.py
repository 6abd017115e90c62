"""Trains one trial, or a stack of trials."""
