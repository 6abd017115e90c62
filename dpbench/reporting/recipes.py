"""An answer's setting as text to take along: Opacus code, and a sweep file."""

import json
import math
import textwrap
from typing import Any

from dpbench.analysis.answers import Best, Setting
from dpbench.privacy import guarantee
from dpbench.reporting import quantities

_OPTIMIZERS = {
    "sgd": "torch.optim.SGD(model.parameters(), lr={rate}, momentum={momentum})",
    "adam": "torch.optim.Adam(model.parameters(), lr={rate})",
}

_CODE = '''\
import torch
from opacus import PrivacyEngine
from torch import nn


def train(model: nn.Module, dataset: torch.utils.data.Dataset, {loss}):
    """Returns the model, trained by DP-SGD, and the epsilon that it has spent.

{about}
    """
    loader = torch.utils.data.DataLoader(dataset, batch_size={batch_size})
    optimizer = {optimizer}
    engine = PrivacyEngine()
    model, optimizer, loader = engine.make_private(
        module=model.train(),
        optimizer=optimizer,
        data_loader=loader,
        noise_multiplier={noise},
        max_grad_norm={clip},{shuffled}
    )
    for _ in range({epochs}):
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss(model(inputs), targets).backward()
            optimizer.step()
    return model, engine.get_epsilon(delta={delta})
'''


def opacus_code(best: Best, *, loss: str | None = None) -> str | None:
    """A function that trains any model as the setting says, by Opacus' own engine.

    None where Opacus has no such clipping, or the optimizer is not known here.

    Args:
        best: Of an answer.
        loss: A user's, which the function then takes in place of cross entropy.
    """
    chosen = best.setting
    if chosen.clipping != "flat" or chosen.optimizer not in _OPTIMIZERS:
        return None
    about = (
        f"dpbench measured {_measured(best)} by these numbers, "
        f"with epsilon {guarantee.rounded_up(best.epsilon, 3)} at delta "
        f"{quantities.short(best.delta)} "
        f"({guarantee.ACCOUNTANTS[best.accountant]}){_of_data(chosen)}. With other data sizes, "
        "batch sizes or epochs solve for the noise multiplier again. Opacus rounds the sample rate "
        "to one over the number of batches, and its epsilon is by PRV: 0.01 more. "
        "For a model that is released give PrivacyEngine(secure_mode=True), and pay for the choice "
        "of these numbers."
    )
    if loss is not None:
        about += f" The loss was {loss}: pass its mean over the examples of a batch."
    if chosen.sampling == "shuffle":
        about += (
            " Batches are shuffled: the epsilon that Opacus returns is that of Poisson samples, "
            "and does not hold for them."
        )
    return _CODE.format(
        about=textwrap.indent(textwrap.fill(about, 92), "    "),
        loss="loss=nn.functional.cross_entropy" if loss is None else "loss",
        batch_size=chosen.batch_size,
        optimizer=_OPTIMIZERS[chosen.optimizer].format(
            rate=repr(chosen.learning_rate), momentum=repr(chosen.momentum)
        ),
        noise=repr(chosen.noise_multiplier),
        clip=repr(chosen.max_grad_norm),
        shuffled="\n        poisson_sampling=False," if chosen.sampling == "shuffle" else "",
        epochs=chosen.epochs,
        delta=repr(best.delta),
    )


def _measured(best: Best) -> str:
    """The test accuracy or, where targets are no classes, the metric that it was chosen by."""
    if math.isnan(best.accuracy.mean):
        return f"test {best.metric} {best.test_metric:.4g}"
    return f"{quantities.accuracy(best.accuracy)} test accuracy"


def _of_data(chosen: Setting) -> str:
    if chosen.train_examples is None or chosen.steps is None:
        return ""
    return f", of {chosen.steps:,} steps on {chosen.train_examples:,} examples"


def sweep_file(
    best: Best,
    *,
    dataset: str,
    validation_examples: int = 0,
    model_args: str | None = None,
    loss: str | None = None,
) -> str:
    """TOML that `dpbench sweep` reads: the setting on fresh data, or as a start for a finer grid.

    Args:
        best: Of an answer.
        dataset: That the answer is of.
        validation_examples: That were held out.
        model_args: Of a user's model, as a JSON object.
        loss: A user's.
    """
    chosen = best.setting
    values = {
        "dataset": dataset,
        "model": chosen.model if model_args is None else chosen.model.partition("(")[0],
        "engine": chosen.engine,
        "sampling": chosen.sampling,
        "noise_multiplier": chosen.noise_multiplier,
        "max_grad_norm": chosen.max_grad_norm,
        "clipping": chosen.clipping,
        "batch_size": chosen.batch_size,
        "optimizer": chosen.optimizer,
        "learning_rate": chosen.learning_rate,
        "momentum": chosen.momentum,
        "epochs": chosen.epochs,
        "delta": best.delta,
        "validation_examples": validation_examples,
    }
    lines = [
        f"# epsilon {guarantee.rounded_up(best.epsilon, 3)}{_of_data(chosen)}: with others, put a "
        "target_epsilon in the",
        "# place of the noise_multiplier. Run it by: dpbench sweep THIS_FILE --seeds 0 1 2",
        *(f"{name} = {_toml(value)}" for name, value in values.items()),
        *([f"loss = {_toml(loss)}"] if loss else []),
        *([f"model_args = {_toml(json.loads(model_args))}"] if model_args else []),
    ]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """The value as TOML; JSON's strings are, but for one character that JSON need not escape."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_toml(key)} = {_toml(each)}' for key, each in value.items())} }}"
    return repr(value)
