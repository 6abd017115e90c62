"""Why an engine is not used for a model."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why an engine is not used for a model, and what to do.

    Attributes:
        reason: The end of a sentence that starts with the engine or with the model.
        layer: Path of the layer that it lies in; None where that is not known.
        remedy: An imperative; None where none is known.
        of_model: Whether no private engine can train the model rightly, whatever it computes.
    """

    reason: str
    layer: str | None = None
    remedy: str | None = None
    of_model: bool = False

    def __str__(self) -> str:
        return self.reason if self.remedy is None else f"{self.reason}; {self.remedy}"
