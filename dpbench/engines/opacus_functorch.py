"""Opacus with per-example gradients by functorch."""

from dpbench.engines.opacus import grad_sample_engine

SPEC = grad_sample_engine("functorch", order=50, examples_per_second=6_000.0)
