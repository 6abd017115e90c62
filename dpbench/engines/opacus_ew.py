"""Opacus with per-example gradients by expanded weights."""

from dpbench.engines.opacus import grad_sample_engine

SPEC = grad_sample_engine("ew", order=60, examples_per_second=5_500.0, memory_format="contiguous")
