"""Datasets: which there are, and their tensors in memory."""
