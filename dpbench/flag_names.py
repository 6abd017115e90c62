"""Names of flags: short ones, those of other tools, and what a misspelt one may mean.

A key of a sweep file is a flag's name with `_` for `-`.
"""

import difflib
from collections.abc import Collection, Mapping

# The short names of the field, which work as the flags they stand for
ALIASES: Mapping[str, tuple[str, ...]] = {
    "--noise-multiplier": ("--sigma", "--noise"),
    "--target-epsilon": ("--epsilon", "--eps"),
    "--max-grad-norm": ("--clip",),
    "--batch-size": ("--bs",),
    "--learning-rate": ("--lr",),
    "--optimizer": ("--optim",),
    "--jobs": ("--workers",),
    "--validation": ("--val",),
}

# What other tools call it: whose name it is, and the flag
FOREIGN: Mapping[str, tuple[str, str]] = {
    "--l2-norm-clip": ("TensorFlow Privacy's", "--max-grad-norm"),
    "--max-per-sample-grad-norm": ("Opacus' examples'", "--max-grad-norm"),
    "--per-example-max-grad-norm": ("private-transformers'", "--max-grad-norm"),
    "--clipping-norm": ("JAX Privacy's", "--max-grad-norm"),
    "--max-norm": ("clip_grad_norm_'s", "--max-grad-norm"),
    "--clipping-mode": ("private-transformers' and FastDP's", "--clipping"),
    "--clipping-fn": ("FastDP's", "--clipping"),
    "--grad-sample-mode": ("Opacus'", "--engine"),
    "--poisson-sampling": ("Opacus'", "--sampling"),
    "--target-delta": ("Opacus'", "--delta"),
    "--max-physical-batch-size": ("Opacus'", "--physical-batch-size"),
    "--microbatches": ("TensorFlow Privacy's", "--physical-batch-size"),
    "--num-microbatches": ("TensorFlow Privacy's", "--physical-batch-size"),
    "--num-train-epochs": ("Hugging Face's", "--epochs"),
    "--per-device-train-batch-size": ("Hugging Face's", "--batch-size"),
    "--num-workers": ("DataLoader's", "--jobs"),
    "--n-jobs": ("joblib's", "--jobs"),
    "--output-dir": ("Hugging Face's", "--out"),
    "--arch": ("PyTorch's examples'", "--model"),
    "--network": ("the usual", "--model"),
    "--data": ("PyTorch's examples'", "--dataset"),
    "--gpu": ("PyTorch's examples'", "--device"),
    "--gpus": ("Lightning's", "--device"),
    "--accelerator": ("Lightning's", "--device"),
    "--disable-dp": ("Opacus' examples'", "--engine"),
    "--non-private": ("private-transformers'", "--engine"),
    "--n-runs": ("Opacus' examples'", "--seeds"),
}

ALIKE = (
    0.75  # of two names that may be one with a slip; unrelated ones of the same length reach 0.6
)


def flag_of_alias(name: str, known: Collection[str]) -> str | None:
    """The known flag that the alias stands for; None if there is none.

    Args:
        name: Such as `--lr`.
        known: The flags of the command.
    """
    for flag, aliases in ALIASES.items():
        if name in aliases and flag in known:
            return flag
    return None


def meant(name: str, known: Collection[str]) -> str | None:
    """What an unknown flag may have meant, as the end of a message; None if nothing is near.

    Args:
        name: Such as `--l2-norm-clip`.
        known: The flags of the command.
    """
    name = name.replace("_", "-")
    owner, flag = FOREIGN.get(name, ("", ""))
    if flag in known:
        return f"{owner} name for {flag}"
    begun = sorted((each for each in known if each.startswith(name)), key=len)
    if begun and len(name) > len("--x"):
        return f"did you mean {begun[0]}?"
    bare = {each.lstrip("-"): each for each in known}
    near = difflib.get_close_matches(name.lstrip("-"), bare, n=1, cutoff=ALIKE)
    return f"did you mean {bare[near[0]]}?" if near else None


def key(flag: str) -> str:
    """The key of a sweep file: `trial_timeout` of `--trial-timeout`."""
    return flag.removeprefix("--").replace("-", "_")
