"""Opacus' epsilons that this machine has computed before.

Importing Opacus and what it needs takes each worker 1.5 s of its 4 s from start to first result.
"""

from functools import cache

from dpbench.privacy import prv, user_cache

_NAME = "epsilon_prv"


def epsilon(
    *, noise_multiplier: float, sample_rate: float, steps: int, delta: float
) -> tuple[float | None, str | None]:
    """As `prv.epsilon`, by Opacus where it has not been computed by the same versions before."""
    asked = {
        "noise_multiplier": noise_multiplier,
        "sample_rate": sample_rate,
        "steps": steps,
        "delta": delta,
    }
    kept = user_cache.read(_NAME, asked, _versions())
    if kept is not None:
        return kept, None
    found, note = prv.epsilon(
        noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, delta=delta
    )
    if found is not None and note is None:
        user_cache.keep(_NAME, asked, _versions(), found)
    return found, note


@cache
def _versions() -> tuple[str, ...]:
    """Of all that computes it."""
    return (str(prv.EPSILON_ERROR), *user_cache.versions("opacus", "numpy", "scipy"))
