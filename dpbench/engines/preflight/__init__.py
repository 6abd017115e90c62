"""Preflight: whether an engine computes what it claims on a model that nobody has tested it on.

    preflight(trial, make, inputs, targets, *, loss=cross_entropy) -> None, or raises BadInput

is what a sweep, a timing or an audit calls once for each model, engine and clipping rule, before
the first trial. `Preflight(make, inputs, targets, loss=...)` holds what does not depend on the
engine, for who checks several: `.refusal(trial)` says why the trial's engine is refused, and
`.fastest(trial)` is the fastest engine that is right.

What is checked:

- The engine's clipped sum, without noise, is that of a plain loop over single examples, computed in
  float64 where the model can, at a clipping bound that binds for some examples and not for others.
  The error is relative to the whole vector.
- No example's gradient depends on another example, and no buffer keeps what was seen of one.
- The engine takes the batches that Poisson sampling draws: an empty one, and one of one example.

Random layers: dropout is switched off on both sides, since engines draw masks in orders of their
own; it has no weights and mixes nothing. A model that is random in another way in training mode is
held against each example's own loss within the batch, at the same state of the generator.
"""

from dpbench.engines.preflight.checks import Preflight, preflight, refuse
from dpbench.engines.preflight.refusals import Refusal
from dpbench.losses import Loss, cross_entropy

__all__ = ["Loss", "Preflight", "Refusal", "cross_entropy", "preflight", "refuse"]
