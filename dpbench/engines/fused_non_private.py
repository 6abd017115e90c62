"""The step without clipping and noise by the compiled kernel of `fused`."""

from dataclasses import replace

from dpbench.engines import fused

SPEC = replace(
    fused.SPEC,
    name="fused-non-private",
    private=False,
    order=10,
    stand_in="non-private",
)
