"""The committed results are what the committed commands make, and what README says of them."""

from pathlib import Path

import pandas as pd
import pytest

from dpbench import analysis, estimate, grid, store
from dpbench.trial import ENGINES

ROOT = Path(__file__).parent.parent
QUICK = ROOT / "results" / "mnist-quick"


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    return pd.read_parquet(QUICK / "trials")


def test_mnist_quick_is_the_whole_default_sweep(trials: pd.DataFrame) -> None:
    default = grid.trials([grid.grid(grid.defaults("mnist"))], "mnist")
    assert set(trials["trial_id"]) == {trial.trial_id for trial in default}
    assert (trials["status"] == "ok").all()
    assert store.finished(QUICK) == set(trials["trial_id"])
    assert not trials["dpbench_commit"].str.contains("dirty").any()


def test_its_steps_and_rates_are_those_of_60_000_examples(trials: pd.DataFrame) -> None:
    assert (trials["sample_rate"] == trials["batch_size"] / 60_000).all()
    assert (trials["steps"] == trials["epoch"] * (60_000 / trials["batch_size"]).round()).all()
    drawn = trials["examples_seen"] / (trials["steps"] * trials["batch_size"])
    assert drawn.between(0.98, 1.02).all()


def test_its_curves_have_their_true_shape(trials: pd.DataFrame) -> None:
    """Less noise is better, no noise is best, and the narrowest clip bears the most noise best."""
    last = analysis.final(trials)
    for _, here in last.groupby("batch_size"):
        baseline = analysis.non_private(here)["test_accuracy"].item()
        private = analysis.private(here)
        by_noise = private.groupby("noise_multiplier")["test_accuracy"].max()
        assert by_noise.is_monotonic_decreasing
        assert by_noise.max() < baseline
        noisiest = private[private["noise_multiplier"] == private["noise_multiplier"].max()]
        quietest = private[private["noise_multiplier"] == private["noise_multiplier"].min()]
        best_clip = [
            rows.loc[rows["test_accuracy"].idxmax(), "max_grad_norm"]
            for rows in (noisiest, quietest)
        ]
        assert best_clip[0] < best_clip[1]


def test_its_timings_hold_every_engine_and_batch_size(trials: pd.DataFrame) -> None:
    timings = store.read_timings(QUICK)
    timed = set(zip(timings["engine"], timings["batch_size"], strict=True))
    engines = [engine for engine in ENGINES if engine != "fused-non-private"]
    assert timed == {(e, size) for e in engines for size in set(trials["batch_size"])}
    assert (timings.groupby(["engine", "batch_size"]).size() >= 7).all()


def test_the_nominal_rates_are_within_a_factor_of_two_of_it() -> None:
    rates = analysis.overhead(store.read_timings(QUICK)).groupby("engine")["examples_per_second"]
    for engine, measured in rates.median().items():
        nominal = estimate.NOMINAL_EXAMPLES_PER_SECOND[engine]
        assert 0.5 < measured / nominal < 2, engine


def test_the_figures_are_beside_it() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("privacy_accuracy", "overhead"):
        assert f"results/mnist-quick/{name}.png" in readme
        assert (QUICK / f"{name}.png").is_file()
        assert (QUICK / f"{name}.svg").is_file()
