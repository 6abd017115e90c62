"""Opacus with per-example gradients by its hooks."""

from dpbench.engines.opacus import grad_sample_engine

SPEC = grad_sample_engine("hooks", order=40, examples_per_second=5_500.0, memory_format="mixed")
