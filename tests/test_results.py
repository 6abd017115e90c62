"""The committed results are what the committed commands make, and what README says of them."""

import json
import re
from pathlib import Path

import here
import pandas as pd
import pytest
import stores
from factories import ROOT

from bench import opacus_table, published_again, reference, selection_bias
from dpbench import engines, store
from dpbench.analysis import step_overhead, trial_rows
from dpbench.execution import grid, grid_trials, search_plan, sweep_file
from dpbench.privacy import accounting
from dpbench.reporting import answer_caveats
from dpbench.store import history

TABLE = ROOT / "results" / "opacus-table"
QUICK = ROOT / "results" / "mnist-quick"
CUDA = ROOT / "results" / "mnist-cuda"


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    return pd.read_parquet(QUICK / "trials")


@pytest.mark.parametrize("root", [QUICK, CUDA], ids=lambda root: root.name)
def test_a_default_sweep_is_whole(root: Path) -> None:
    found = store.read_trials(root)
    default = grid_trials.trials([grid.grid(grid.defaults("mnist"))], "mnist")
    private = {trial.trial_id for trial in default if trial.private}
    assert set(trial_rows.private(found)["trial_id"]) == private
    baselines = {trial.trial_id for trial in default if not trial.private}
    seen = set(trial_rows.final(trial_rows.unclipped(found))["trial_id"])
    # the sweep on a GPU is of a dpbench that tried one learning rate without privacy
    assert seen == baselines if root == QUICK else len(seen) == 2
    assert (found["status"] == "ok").all()
    assert store.finished(root) == set(found["trial_id"])
    assert not found["dpbench_commit"].str.contains("dirty").any()


def test_the_sweep_on_a_gpu_was_stacked_and_spent_the_same(trials: pd.DataFrame) -> None:
    found = store.read_trials(CUDA)
    assert set(found["implementation"]) == {"stacked"}
    assert set(found["device"]) == {"cuda:0"}
    same = ["trial_id", "epoch"]
    by_pld = accounting.by_one_accountant(found)  # it is of a dpbench that accounted by PRV
    both = trial_rows.private(by_pld).merge(trial_rows.private(trials), on=same)
    assert len(both) == 180
    assert set(both["accountant_x"]) == set(both["accountant_y"]) == {"pld"}
    assert (both["epsilon_x"] - both["epsilon_y"]).abs().max() < 1e-7


def test_its_steps_and_rates_are_those_of_60_000_examples(trials: pd.DataFrame) -> None:
    assert (trials["sample_rate"] == trials["batch_size"] / 60_000).all()
    assert (trials["steps"] == trials["epoch"] * (60_000 / trials["batch_size"]).round()).all()
    drawn = trials["examples_seen"] / (trials["steps"] * trials["batch_size"])
    assert drawn.between(0.98, 1.02).all()


def test_its_curves_have_their_true_shape(trials: pd.DataFrame) -> None:
    """Less noise is better, no noise is best, and the narrowest clip bears the most noise best."""
    last = trial_rows.final(trials)
    for _, alike in last.groupby("batch_size"):
        baseline = trial_rows.unclipped(alike)["test_accuracy"].max()
        private = trial_rows.private(alike)
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
    wanted = [name for name in engines.names() if name != "fused-non-private"]
    assert timed == {(e, size) for e in wanted for size in set(trials["batch_size"])}
    assert (timings.groupby(["engine", "batch_size"]).size() >= 7).all()


@pytest.mark.parametrize("name", ["mnist-quick", "mnist-grid"])
def test_the_nominal_rates_are_those_of_a_machine(name: str) -> None:
    """One is three times as fast as the other as a whole; the guesses lie between the two."""
    measured = step_overhead.overhead(store.read_timings(ROOT / "results" / name))
    measured = measured[measured["engine"].isin(engines.names())]
    rates = measured.groupby("engine")["examples_per_second"].median()
    shares = rates / [engines.spec(str(engine)).examples_per_second for engine in rates.index]
    machine = shares.median()
    assert 1 / 3 < machine < 3
    assert (shares / machine).between(1 / 1.5, 1.5).all(), shares


def test_the_figures_that_readmes_show_are_there() -> None:
    pages = [ROOT / "README.md", *(ROOT / "results").glob("*/README.md")]
    shown = [
        page.parent / path
        for page in pages
        for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert len(shown) >= 4
    assert [path for path in shown if not path.is_file()] == []


@pytest.mark.parametrize("name", ["opacus-table", "mnist-grid", "published"])
def test_a_store_is_the_whole_of_its_sweep_file(name: str) -> None:
    root = ROOT / "results" / name
    asked = grid_trials.trials(sweep_file.read(root / "sweep.toml").grids({}), "mnist")
    confirming = history.confirmations(history.read(root))
    assert store.finished(root) - confirming == {trial.trial_id for trial in asked}
    assert confirming <= store.finished(root)
    rows = store.read_trials(root)
    assert (rows["status"] == "ok").all()
    assert not rows["dpbench_commit"].str.contains("dirty").any()


def test_the_grids_readme_says_how_much_clipping_norms_differ() -> None:
    root = ROOT / "results" / "mnist-grid"
    rows = store.read_trials(root)
    rows = rows[~rows["trial_id"].isin(history.confirmations(history.read(root)))]
    ends = trial_rows.private(rows[rows["epoch"] == rows["epochs"]])
    means = 100 * ends.pivot_table(
        "test_accuracy", ["noise_multiplier", "batch_size"], "max_grad_norm"
    )
    assert means.shape == (6 * 3, 4)
    apart = means.max(axis=1) - means.min(axis=1)
    readme = " ".join((root / "README.md").read_text(encoding="utf-8").split())
    assert f"differ by at most {apart[:2.5].max():.1f} points" in readme
    assert (means.loc[4.0].idxmin(axis=1) == 2.0).all()
    least, most = apart[4.0].min(), apart[4.0].max()
    assert f"worst at every batch size, {least:.1f} to {most:.1f} points below the best" in readme


BIAS = ROOT / "results" / "selection_bias"


def test_how_much_choosing_flatters_is_what_was_simulated() -> None:
    rows = json.loads((BIAS / "selection_bias.json").read_text(encoding="utf-8"))["rows"]
    found = [selection_bias.Found(**row) for row in rows]
    assert selection_bias.text(found) in (BIAS / "README.md").read_text(encoding="utf-8")
    seen, alike = ([each for each in found if each.ties == ties] for ties in (False, True))
    for worlds, said in (
        (
            seen,
            "{} points too good and its 95 % interval holds the truth in {} % of cases",
        ),
        (alike, "where all settings are alike, {} points and {} %"),
    ):
        biases = span([f"{each.bias_points:.2f}" for each in worlds])
        covers = span([f"{100 * each.coverage:.0f}" for each in worlds])
        assert said.format(biases, covers) in answer_caveats.BIAS
    arms = [each.arms for each in found]
    assert f"{min(arms)} to {max(arms)} settings" in answer_caveats.BIAS
    assert {each.seeds for each in found} == {3}
    assert all(abs(each.fresh_bias_points) < 0.02 for each in found)
    readme = (BIAS / "README.md").read_text(encoding="utf-8")
    assert f"correlate at {span([f'{each.correlation:.2f}' for each in found])}, " in readme


def span(numbers: list[str]) -> str:
    """The least and the largest: "0.11 to 0.14", or what all are."""
    least, most = min(numbers, key=float), max(numbers, key=float)
    return least if least == most else f"{least} to {most}"


def test_the_simulation_gives_again_what_is_committed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert selection_bias.main(["--short", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["rows"]
    rows = json.loads((BIAS / "selection_bias.json").read_text(encoding="utf-8"))["rows"]
    for one, other in zip(again, rows, strict=True):
        assert one["correlation"] == pytest.approx(other["correlation"])
        assert one["bias_points"] == pytest.approx(other["bias_points"], abs=0.05)
        assert one["coverage"] == pytest.approx(other["coverage"], abs=0.05)


MNIST = ROOT / "results" / "mnist"


@pytest.mark.slow  # solves for every noise; what names a setting is tested below
def test_the_searches_of_mnist_are_whole_and_nothing_else_is_there() -> None:
    finished = store.finished(MNIST)
    settings = 0
    for path in MNIST.glob("*.toml"):
        asked = sweep_file.read(path)
        if "search" not in asked.settings:  # a baseline's
            baseline = grid_trials.trials(asked.grids({}), "mnist")
            assert finished >= {trial.trial_id for trial in baseline}, path.name
            continue
        search = search_plan.plan(
            asked.grids({}),
            "mnist",
            asked.settings["search"],
            early_stop=asked.settings["early_stop"],
            fastest=engines.fastest,
        )
        assert finished >= {trial.trial_id for trial in search.trials}, path.name
        settings += len(search.candidates)
        for group in {each.group for each in search.candidates}:
            whole = [each.trials[0].trial_id for each in search.candidates if each.group == group]
            assert finished & set(whole), (path.name, group)
    assert settings >= 400
    sweeps = history.read(MNIST)
    asked_for = {trial_id for sweep in sweeps for trial_id in sweep.trial_ids}
    assert finished == asked_for | history.confirmations(sweeps)
    rows = store.read_trials(MNIST)
    assert (rows["status"] == "ok").all()
    assert not rows["dpbench_commit"].str.contains("dirty").any()


def test_every_setting_that_mnist_names_ran_on_five_fresh_seeds() -> None:
    for found in reference.reached(MNIST):
        for epsilon in reference.EPSILONS:
            shown = found.within[epsilon]
            assert shown is not None, (found.model, epsilon)
            assert shown.confirmed
            assert shown.accuracy.seeds >= 5
        assert found.baseline is not None
        assert found.baseline.confirmed


def test_the_tables_of_mnists_readme_are_those_of_its_script() -> None:
    readme = (MNIST / "README.md").read_text(encoding="utf-8")
    blocks = reference.tables(MNIST)
    for name, block in blocks.items():
        assert f"<!-- {name} -->\n{block}\n<!-- end of {name} -->" in readme
    documented = re.findall(r"^\| `(\w+)` \|", blocks["columns"], re.MULTILINE)
    assert documented == store.TRIALS.names


@pytest.mark.slow  # reads all trials; what changes these answers fails beside test_report, too
def test_mnist_says_what_its_readme_says() -> None:
    readme = (MNIST / "README.md").read_text(encoding="utf-8")
    flat = " ".join(readme.split())
    for sentence in stores.sentences(MNIST):
        assert " ".join(sentence.split()) in flat


def test_readmes_table_is_of_what_mnist_reaches() -> None:
    shown = reference.top(reference.reached(MNIST))
    assert shown in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_tables_of_publisheds_readme_are_those_of_its_script(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert published_again.main([]) == 0
    page = (ROOT / "results" / "published" / "README.md").read_text(encoding="utf-8")
    made = capsys.readouterr().out.split("\n\n")
    assert [table for table in made if table.strip() not in page] == []
    assert "| - | - | - | - |" not in made[0]  # every setting has been trained


def test_opacus_tables_readme_says_what_its_script_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with here.blank_figures():
        assert opacus_table.main(["--short"]) == 0
    readme = (TABLE / "README.md").read_text(encoding="utf-8")
    tables = capsys.readouterr().out.split("\n\n")
    assert len(tables) == 2
    assert all(table.strip() in readme for table in tables)


def test_one_seed_of_run_c_is_the_same_by_opacus() -> None:
    last = trial_rows.final(store.read_trials(TABLE))
    last = last[(last["sampling"] == "poisson") & (last["batch_size"] == 240)]
    run_c = last[(last["noise_multiplier"] == 1.3) & (last["seed"] == 0)].set_index("engine")
    ours, theirs = (run_c.loc[name, "test_accuracy"] for name in ("fused", "opacus-hooks"))
    assert abs(ours - theirs) < 0.002
