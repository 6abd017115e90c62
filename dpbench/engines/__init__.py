"""Engines: ways to compute a training step. Each is a file or a folder that exports `SPEC`.

An engine in a file reads `engines/NAME.py`, one in a folder `engines/NAME/__init__.py`. These files
are read by the command line, so they import torch inside functions only; the step itself stands in
another file. A new engine is one new file or folder: no other file names it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from dpbench import plugins
from dpbench.errors import BadInput
from dpbench.trial import TIMED_STEP, USER_FIELDS, Trial, Workload

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from dpbench.engines.protocol import Engine
    from dpbench.engines.stacked import Stacked

MemoryFormat = Literal["contiguous", "channels_last", "mixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What the program knows of an engine.

    Attributes:
        name: As in `Trial.engine`; the file's name with `-` for `_`.
        private: Whether it clips and adds noise.
        family: Whose step it is; figures and texts put engines of one family together.
        order: Rank in legends and tables, and among engines of equal speed.
        supports: (trial, device) -> None, or why the engine cannot compute the trial's step, as the
            end of a sentence. Reads the trial's model, optimizer and clipping; the trial's engine
            is not looked at. The device is `cpu`, `cuda`, or None for the best one.
        build: (trial, model, noise, physical_batch_size) -> the engine, which trains the model in
            place. `noise` is the only source of noise, on the model's device. See `build`.
        examples_per_second: A guess for one thread on a CPU and the tutorial's CNN. The fastest
            engine that supports a trial is the default.
        refuses: Model -> None, or why the engine cannot train this module, as the end of a
            sentence: hooks, frozen weights and layers, which names do not tell.
        stand_in: The engine that computes the step where this one cannot. Rows record it as
            `implementation`.
        memory_format: On a CPU, the fastest layout of weights and activations in which the engine
            is right. `mixed` is `channels_last` but for the inputs that Opacus' hooks keep. On a
            GPU every engine is contiguous.
        stackable: Whether trials of this engine may be trained at once by `engines.stacked`.
        prepare: Compiles what steps need, or loads it where this machine has compiled it before.
    """

    name: str
    private: bool
    family: str = "dpbench's own"
    order: int
    supports: Callable[[Trial, str | None], str | None]
    build: "Callable[[Trial, nn.Module, torch.Generator, int | None], Engine]"
    examples_per_second: float
    refuses: "Callable[[nn.Module], str | None]" = lambda _: None
    stand_in: str | None = None
    memory_format: MemoryFormat = "channels_last"
    stackable: bool = False
    prepare: Callable[[], None] = lambda: None


def spec(name: str) -> EngineSpec:
    """The engine of that name.

    Raises:
        BadInput: There is no such engine.
    """
    found: EngineSpec = plugins.spec("engines", name)
    return found


@cache
def names() -> tuple[str, ...]:
    """The engines' names in the order of legends."""
    return tuple(sorted(plugins.names("engines"), key=lambda name: (spec(name).order, name)))


def private_names() -> tuple[str, ...]:
    """The engines that clip and add noise, in order."""
    return tuple(name for name in names() if spec(name).private)


def non_private_names() -> tuple[str, ...]:
    """The engines that do neither, in order."""
    return tuple(name for name in names() if not spec(name).private)


def fastest(trial: Trial) -> str:
    """The fastest engine that computes the trial's step, whatever engine the trial names.

    It does not depend on this machine's devices, so that trial ids do not.

    Raises:
        BadInput: No engine does.
    """
    alike = [spec(name) for name in names() if spec(name).private == trial.private]
    by_speed = sorted(alike, key=lambda each: -each.examples_per_second)
    for each in by_speed:
        if each.supports(trial, None) is None:
            return each.name
    reasons = "; ".join(f"{each.name} {each.supports(trial, None)}" for each in by_speed)
    raise BadInput(f"No engine can train {trial.model} as asked: {reasons}.")


def check(trial: Trial) -> None:
    """Raises BadInput, with the engines that would do, where the trial's engine cannot train it."""
    chosen, reason = _choose(trial, None, None)
    if reason is not None:
        raise BadInput(
            f"Expected engine={trial.engine!r} to train model={trial.model!r} with optimizer="
            f"{trial.optimizer!r} and clipping={trial.clipping!r}: {chosen.name} {reason}; use "
            f"{fastest(trial)}."
        )


def timing_trial(engine: str, workload: Workload) -> Trial:
    """A trial for timing: its steps are those of TIMED_STEP and stay near the same weights."""
    private = spec(engine).private
    return Trial(
        **{name: getattr(workload, name) for name in USER_FIELDS},
        dataset=workload.dataset,
        model=workload.model,
        engine=engine,
        noise_multiplier=1.0 if private else None,
        max_grad_norm=1.0 if private else None,
        delta=1e-5 if private else None,
        batch_size=workload.batch_size,
        learning_rate=1e-3,
        epochs=1,
        optimizer=TIMED_STEP["optimizer"],
        clipping=TIMED_STEP["clipping"],
    )


def has_own_step(engine: str, workload: Workload) -> bool:
    """Whether the engine itself computes the workload's step, and no stand-in does."""
    chosen = spec(engine)
    return chosen.stand_in is None or chosen.supports(timing_trial(engine, workload), None) is None


def implementation(trial: Trial, model: "nn.Module") -> EngineSpec:
    """The engine that really computes the trial's step on this model.

    Args:
        trial: Names the engine that is asked for.
        model: What is trained, on its device.

    Raises:
        BadInput: Neither the engine nor a stand-in can train the model.
    """
    chosen, reason = _choose(trial, model, next(model.parameters()).device.type)
    if reason is not None:
        raise BadInput(f"The {chosen.name} engine cannot train this model: it {reason}.")
    return chosen


def planned(trial: Trial, device: str) -> EngineSpec:
    """As `implementation`, by names alone: neither model nor device need be there."""
    return _choose(trial, None, device.partition(":")[0])[0]


def _choose(
    trial: Trial, model: "nn.Module | None", device: str | None
) -> tuple[EngineSpec, str | None]:
    """The trial's engine, or the last of its stand-ins, and why that cannot train the trial."""
    chosen = spec(trial.engine)
    while True:
        reason = chosen.supports(trial, device)
        if reason is None and model is not None:
            reason = chosen.refuses(model)
        if reason is None or chosen.stand_in is None:
            return chosen, reason
        chosen = spec(chosen.stand_in)


def memory_format(engine: EngineSpec, device: str, trial: Trial | None = None) -> MemoryFormat:
    """The layout in which the engine computes on the device.

    Args:
        engine: That computes.
        device: Where.
        trial: Of what; a user's model may take contiguous activations alone.
    """
    if device != "cpu" or engine.memory_format == "contiguous":
        return "contiguous"
    if trial is None or trial.model_hash is None:
        return engine.memory_format
    takes = _takes_channels_last(trial.model, trial.model_hash, trial.dataset, trial.data_hash)
    return engine.memory_format if takes else "contiguous"


@cache
def _takes_channels_last(
    model: str, _model_hash: str, dataset: str, _data_hash: str | None
) -> bool:
    from dpbench import datasets, models
    from dpbench.engines import layout

    built = models.build(model, dataset, seed=0, device="cpu")
    return layout.takes_channels_last(built, datasets.spec(dataset).input_shape)


def build(
    trial: Trial,
    model: "nn.Module",
    *,
    noise: "torch.Generator",
    physical_batch_size: int | None = None,
) -> "Engine":
    """The trial's engine or its stand-in, which trains `model` in place.

    Args:
        trial: Names the engine and holds what a step needs.
        model: In training mode, on its device.
        noise: Generator on the model's device; the only source of the noise.
        physical_batch_size: Most examples in one forward pass; None for whole batches. It bounds
            memory and changes no result but by rounding.

    Raises:
        BadInput: The engine cannot train the model.
    """
    from dpbench.engines import layout

    engine = implementation(trial, model)
    device = next(model.parameters()).device.type
    layout.arrange(model, memory_format(engine, device, trial))
    _compute_in_float32()
    return engine.build(trial, model, noise, physical_batch_size)


def build_stack(
    trials: Sequence[Trial],
    models: "Sequence[nn.Sequential]",
    *,
    noise: "Sequence[torch.Generator]",
    physical_batch_size: int | None,
) -> "Stacked":
    """The engine that trains all of the trials at once; see `Stacked`."""
    from dpbench.engines.stacked import Stacked

    _compute_in_float32()
    return Stacked(trials, models, noise=noise, physical_batch_size=physical_batch_size)


def graphed(engine: "Engine", *, noise: "Sequence[torch.Generator]") -> "Engine":
    """The engine; on a GPU, and where its steps can be captured, they are CUDA graphs.

    Args:
        engine: An engine, or a stack of trials.
        noise: All generators that it draws from, on its device.
    """
    from dpbench.engines.cuda_graphs import Capturable, Graphed

    if noise[0].device.type == "cuda" and isinstance(engine, Capturable):
        return Graphed(engine, noise=noise)
    return engine


def forward(model: "nn.Module") -> "Callable[[Tensor], Tensor]":
    """The fastest way to the model's logits at the weights that it has now, for evaluation.

    The same for every engine, so that arms are compared by their weights alone.
    """
    from dpbench.engines.fused import step

    return step.Forward(model) if step.computes(model) else model


def prepare() -> None:
    """Compiles what engines need on a CPU, or loads it where it is compiled."""
    for name in names():
        spec(name).prepare()


def _compute_in_float32() -> None:
    """Has a GPU's convolutions round as a CPU's do: by default they use ten bits of each number."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
