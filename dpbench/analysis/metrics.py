"""Names of what settings are chosen by: built-in metrics, and users' own. No pandas."""

from dpbench.errors import BadInput

BUILT_IN = ("accuracy", "balanced_accuracy", "auroc", "loss")
LOWEST = ":lowest"  # after the name of a user's metric of which lower is better


def named(metric: str) -> str:
    """The metric's name, without which way is better."""
    return metric.removesuffix(LOWEST)


def lower_is_better(metric: str) -> bool:
    """Of built-in metrics that is true of the loss; of a user's, where the user says so."""
    return metric == "loss" or metric.endswith(LOWEST)


def checked(metric: str) -> str:
    """The metric, as it was typed.

    Raises:
        BadInput: A built-in one is said to be better the lower, which is known of it.
    """
    if metric.endswith(LOWEST) and named(metric) in BUILT_IN:
        raise BadInput(
            f"Expected choose_by={metric} to be {named(metric)}: which way is better is known of "
            f"{', '.join(BUILT_IN)}."
        )
    return metric
