"""The simulation runs the rules of compare, and the figures that are stated are its own."""

import json

import numpy as np
import pandas as pd
import pytest
from factories import ROOT

from bench import false_alarms
from dpbench.analysis.comparison import differences
from dpbench.analysis.trial_rows import ARM

FOLDER = ROOT / "results" / "false_alarms"


@pytest.fixture(scope="module")
def model() -> false_alarms.Model:
    return false_alarms.model(false_alarms.trials_of_the_grid())


def test_many_comparisons_are_judged_as_compare_judges_one(model: false_alarms.Model) -> None:
    """Each by itself, through `differences.accuracy`, from rows as a store has them."""
    rng = np.random.default_rng(3)
    few = model.arms.iloc[::5]
    before = np.tile(model.mean[::5, None], (8, 1, 3)) + rng.normal(0, 0.005, (8, len(few), 3))
    after = before - rng.normal(0.004, 0.004, before.shape)
    pairs = false_alarms.paired(few, before, after)
    together = differences.judged(pairs, tolerance=0.002, comparison=["comparison"])
    verdicts = set()
    for comparison, rows in pairs.groupby("comparison"):
        sides = [
            rows[[*ARM, "seed"]].assign(
                test_accuracy=rows[f"test_accuracy_{side}"], status="ok", epoch=rows["epochs"]
            )
            for side in ("before", "after")
        ]
        alone = differences.accuracy(*sides, tolerance=0.002)
        same = together[together["comparison"] == comparison].drop(columns="comparison")
        pd.testing.assert_frame_equal(
            alone, same[list(alone)].sort_values("arms", kind="stable").reset_index(drop=True)
        )
        verdicts.add(bool(alone["regression"].any()))
    assert verdicts == {True, False}


def test_what_is_drawn_has_the_spreads_and_correlations_of_the_model(
    model: false_alarms.Model,
) -> None:
    drawn = false_alarms._spread(model, np.random.default_rng(0), (20_000, len(model.arms), 1))
    drawn = drawn[:, :, 0]
    assert np.allclose(drawn.std(axis=0), model.deviation, rtol=0.03)
    correlation = np.corrcoef(drawn.T)
    sizes = model.arms["batch_size"].to_numpy()
    same = sizes[:, None] == sizes
    other = correlation[~same].mean()
    within = correlation[same & ~np.eye(len(sizes), dtype=bool)].mean()
    assert other == pytest.approx(model.shared, abs=0.01)
    assert within == pytest.approx(model.shared + model.shared_by_size, abs=0.01)


def test_the_models_correlations_are_those_of_the_trials(model: false_alarms.Model) -> None:
    """Averaged over pairs of arms one by one."""
    trials = false_alarms.trials_of_the_grid()
    last = trials[(trials["epoch"] == trials["epochs"]) & (trials["status"] == "ok")]
    arms = [group for _, group in last.groupby(ARM, dropna=False, sort=False)]
    seeds = np.array([group.sort_values("seed")["test_accuracy"] for group in arms])
    correlation = np.corrcoef(seeds)
    sizes = np.array([group["batch_size"].iloc[0] for group in arms])
    same, others = sizes[:, None] == sizes, ~np.eye(len(sizes), dtype=bool)
    assert model.shared == pytest.approx(correlation[~same].mean())
    found = model.shared + model.shared_by_size
    assert found == pytest.approx(correlation[same & others].mean())


def test_the_interval_is_clopper_and_pearsons() -> None:
    case = {"seeds": 3, "draws": "other draws", "fall": 0.0, "arms": "none"}
    rate = false_alarms.Rate(**case, comparisons=10, regressions=0)  # type: ignore[arg-type]
    assert rate.interval == pytest.approx((0.0, 1 - 0.025 ** (1 / 10)))
    rate = false_alarms.Rate(**case, comparisons=10, regressions=1)  # type: ignore[arg-type]
    assert rate.interval == pytest.approx((0.00253, 0.44502), abs=1e-5)  # R: binom.test(1, 10)


@pytest.mark.slow  # above, single comparisons are judged alike
def test_the_short_run_agrees_with_the_committed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert false_alarms.main(["--short", "--json", "--seed", "1"]) == 0
    short = false_alarms.read(json.loads(capsys.readouterr().out))
    assert len(short) == len(committed())
    for ours, theirs in zip(short, committed(), strict=True):
        assert (ours.seeds, ours.draws, ours.arms) == (theirs.seeds, theirs.draws, theirs.arms)
        error = (theirs.rate * (1 - theirs.rate) / ours.comparisons) ** 0.5
        assert abs(ours.rate - theirs.rate) <= 5 * error + 0.005


def committed() -> list[false_alarms.Rate]:
    return false_alarms.read(json.loads((FOLDER / "false_alarms.json").read_text(encoding="utf-8")))


def test_what_is_stated_is_what_was_simulated() -> None:
    found = committed()
    rate = {(each.seeds, each.arms, each.draws[:5]): each.rate for each in found}
    (repeats,) = {
        f"{each.regressions} of {each.comparisons:,}"
        for each in found
        if (each.arms, each.draws) == ("none", "same draws")
    }
    false = [f"{100 * rate[seeds, 'none', 'other']:.2f} %" for seeds in (3, 1)]
    fall = {
        (seeds, arms): f"{100 * rate[seeds, arms, 'other']:.0f} % and "
        f"{100 * rate[seeds, arms, 'same ']:.0f} %"
        for seeds in (3, 1)
        for arms in ("private", "one")
    }
    stated = (
        f"fail unchanged code in {false[0]} of comparisons of three seeds",
        f"and {false[1]} of one seed where the second run draws other random numbers",
        f"and in {repeats} where it repeats the first but for rounding",
        f"in all private arms in {fall[3, 'private']} of comparisons of three seeds",
        f"and in {fall[1, 'private']} of one seed; in one arm alone in {fall[3, 'one']} of three",
    )
    readme = (ROOT / "dpbench" / "analysis" / "README.md").read_text(encoding="utf-8")
    for text in (readme, differences.RULES):
        flat = " ".join(text.split())
        assert [each for each in stated if each not in flat] == []
    assert false_alarms.text(found) in (FOLDER / "README.md").read_text(encoding="utf-8")
    simulated = json.loads((FOLDER / "false_alarms.json").read_text(encoding="utf-8"))
    assert simulated["tolerance"] == differences.TOLERANCE
