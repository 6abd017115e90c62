"""Stores of many kinds, written without training: what a report must render."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from factories import WHERE, make_trial, make_workload

from dpbench import store
from dpbench.execution import timing_sweep
from dpbench.observations import Epoch, StepTiming
from dpbench.privacy import accounting
from dpbench.reporting import findings, text
from dpbench.store import history
from dpbench.trial import Trial

HOSTILE = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">$\\frac"


def add(root: Path, trial: Trial, *epochs: Epoch) -> None:
    store.write_trial(root, [store.trial_row(trial, epoch, WHERE) for epoch in epochs])


def seen(epoch: int, accuracy: float, epsilon: float | None = None) -> Epoch:
    return Epoch(
        epoch=epoch,
        steps=22 * epoch,
        sample_rate=64 / 1437,
        test_accuracy=accuracy,
        epsilon=epsilon,
        accountant=None if epsilon is None else "pld",
        dp_accounting_version=None if epsilon is None else "0.6.0",
        noise_derivation=None if epsilon is None else "trial",
    )


def failed(reason: str) -> Epoch:
    return Epoch(epoch=1, status="failed", reason=reason)


def empty(root: Path) -> Path:
    store.create(root)
    return root


def one_trial(root: Path) -> Path:
    store.create(root)
    add(root, make_trial(), seen(1, 0.9, 2.0))
    return root


def only_failures(root: Path) -> Path:
    store.create(root)
    add(root, make_trial(), failed("diverged: the loss is nan"))
    return root


def hostile(root: Path) -> Path:
    """Names, reasons and commands that would run if they were not escaped."""
    store.create(root)
    add(root, make_trial(dataset=HOSTILE), seen(1, 0.9, 2.0))
    add(root, make_trial(dataset=HOSTILE, seed=1), failed(HOSTILE))
    record = history.Sweep(
        command=f"python -m dpbench.sweep {HOSTILE}",
        file_name=HOSTILE,
        file_text=f"# {HOSTILE}",
        dpbench_version=HOSTILE,
        started_at="2026-01-02T03:04:05+00:00",
        trial_ids=("another",),
    )
    history.write(root, record)
    return root


def timings_only(root: Path) -> Path:
    store.create(root)
    time(root, "opacus-hooks", [2.0, 2.1, 2.2])
    return root


def full(root: Path) -> Path:
    """Two batch sizes, noise 0 too, three seeds, two epochs, timings, a failure, and its sweep."""
    store.create(root)
    trials: list[Trial] = []
    for seed in range(3):
        for batch_size in (64, 128):
            baseline = make_trial("non-private", batch_size=batch_size, seed=seed, epochs=2)
            add(root, baseline, seen(1, 0.90), seen(2, 0.95 + seed / 100))
            trials.append(baseline)
            for noise, epsilon in ((0.0, float("inf")), (1.0, 4.0), (2.0, 0.9)):
                for clip in (0.5, 1.0):
                    trial = make_trial(
                        noise_multiplier=noise,
                        max_grad_norm=clip,
                        batch_size=batch_size,
                        seed=seed,
                        epochs=2,
                    )
                    accuracy = 0.85 - 0.1 * noise * clip + seed / 50
                    add(
                        root,
                        trial,
                        seen(1, accuracy - 0.1, epsilon / 2),
                        seen(2, accuracy, epsilon),
                    )
                    trials.append(trial)
    add(root, make_trial(max_grad_norm=7.0), failed("diverged: the loss is nan"))
    for engine in ("non-private", "fused", "opacus-hooks"):
        time(root, engine, [len(engine) / 5, len(engine) / 6, len(engine) / 7])
    record = history.Sweep(
        command="python -m dpbench.sweep mine.toml",
        file_name="mine.toml",
        file_text='dataset = "digits"\nepochs = 2\n',
        dpbench_version="0.1.0",
        started_at="2026-01-02T03:04:05+00:00",
        trial_ids=(*(trial.trial_id for trial in trials), "not there yet"),
    )
    history.write(root, record)
    return root


def several_models(root: Path, *, dataset: str = "mnist", confirm: int = 5) -> Path:
    """Three models, two rates at each of five epsilons, and the better one on fresh seeds.

    The better rate by validation accuracy is 0.5; by test accuracy it would be 1. Of the chosen
    seed, 0, test accuracies are a point higher than those of the seeds that confirm.
    """
    store.create(root)
    for number, (model, best) in enumerate(
        (("scatter-linear", 0.983), ("tanh-cnn", 0.977), ("tutorial-cnn", 0.973))
    ):
        shared: dict[str, Any] = {"dataset": dataset, "model": model, "validation_examples": 5000}
        ids: dict[bool, list[str]] = {False: [], True: []}
        baseline = make_trial("non-private", **shared)
        add(root, baseline, replace(seen(1, 0.99 + number / 1000), validation_accuracy=0.99))
        ids[False].append(baseline.trial_id)
        for epsilon in (0.5, 1.0, 2.0, 3.0, 8.0):
            for rate in (0.5, 1.0):
                for seed in (0, *(range(10, 10 + confirm) if rate == 0.5 else ())):
                    trial = make_trial(
                        **shared, noise_multiplier=4 / epsilon, learning_rate=rate, seed=seed
                    )
                    accuracy = best + 0.01 * math.log10(epsilon / 3) + rate / 1000
                    shown = seen(
                        1, accuracy + ((seed - 12) / 1000 if seed else 0.01), epsilon * 0.99
                    )
                    add(root, trial, replace(shown, validation_accuracy=0.98 - rate / 100))
                    ids[seed > 0].append(trial.trial_id)
        record = history.Sweep(
            command=f"python -m dpbench.sweep {model}.toml",
            file_name=None,
            file_text=None,
            dpbench_version="0.1.0",
            started_at=f"2026-01-02T03:04:0{number}+00:00",
            trial_ids=tuple(ids[False]),
            answer_at=(0.5, 1.0, 2.0, 3.0, 8.0),
            confirming=tuple(ids[True]),
        )
        history.write(root, record)
    return root


def time(
    root: Path,
    engine: Any,
    ratios: Sequence[float],
    dataset: str = "digits",
    device: str = "cpu",
) -> None:
    rows = [
        store.timing_row(
            StepTiming(
                dataset=dataset,
                model="tutorial-cnn",
                engine=engine,
                batch_size=64,
                pair=pair,
                order="engine-first",
                steps=4,
                seconds_per_step=0.01 * ratio,
                baseline_seconds_per_step=0.01,
                peak_memory_bytes=2**20 * (pair + 1),
                alone=pair > 0,
            ),
            replace(WHERE, implementation=engine, device=device),
        )
        for pair, ratio in enumerate(ratios)
    ]
    store.write_timings(
        root, timing_sweep.timing_name(engine, make_workload(dataset=dataset), device), rows
    )


@cache
def sentences(root: Path) -> list[str]:
    """What the page of a committed store says of its baseline and answers, a sentence each."""
    trials = accounting.by_one_accountant(store.read_trials(root))
    sweeps = history.read(root)
    tuning, _ = findings.tuning(root, trials, sweeps)
    read = findings.Store(trials=trials, timings=store.read_timings(root), tuning=tuning)
    told = findings.findings(read, trials, sweeps)
    answers = [text.sentence(answer, told.baseline) for answer in told.answers]
    return [text.baseline(told.baseline), *answers]
