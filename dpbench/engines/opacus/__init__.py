"""What the engines of Opacus share: what they support, and their steps."""

from dpbench.trial import Trial


def supports(trial: Trial, _device: str | None) -> str | None:
    """Flat clipping: Opacus 1.6 has no other rule whose result equals ours."""
    return None if trial.clipping == "flat" else "clips by the flat rule alone"
