"""Gates whose numbers do not depend on the machine: epsilons, steps, accuracy floors."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import gates, sweeps
from dpbench import datasets
from dpbench.execution import trial_task
from dpbench.privacy import accounting


@pytest.mark.parametrize("case", gates.cases("epsilon"))
def test_epsilon(case: tuple[str, dict[str, Any]]) -> None:
    name, entry = case
    spent = accounting.spent(
        noise_multiplier=entry["noise_multiplier"],
        sample_rate=entry["sample_rate"],
        steps=entry["steps"],
        delta=1e-5,
    )
    assert gates.close(spent.epsilon_pld, entry["pld"]), name
    assert gates.close(spent.epsilon_rdp, entry["rdp"]), name


@pytest.mark.parametrize("case", gates.cases("steps"))
def test_steps(case: tuple[str, int, int]) -> None:
    dataset, batch_size, expected = case
    assert datasets.steps_per_epoch(dataset, batch_size) == expected


@pytest.mark.gate("accuracy.digits")
def test_accuracy_on_digits() -> None:
    alone = sweeps.workers(Path("unused"), jobs=1)
    check(
        "digits",
        [
            list(trial_task.run_trial(trial, alone, concurrent=0))
            for trial in sweeps.trials("digits")
        ],
    )


@pytest.mark.gate("accuracy.mnist")
def test_accuracy_on_mnist(mnist_sweep: sweeps.Swept) -> None:
    check("mnist", mnist_sweep.rows)


def check(dataset: str, rows: Sequence[Sequence[dict[str, Any]]]) -> None:
    entry = gates.LIMITS["accuracy"][dataset]
    assert [trial[-1]["status"] for trial in rows] == ["ok"] * len(entry["seeds"])
    assert {trial[-1]["steps"] for trial in rows} == {entry["steps"]}
    accuracy = statistics.mean(trial[-1]["test_accuracy"] for trial in rows)
    assert accuracy >= entry["floor"], f"mean of {len(rows)} seeds on {dataset}: {accuracy:.4f}"
