"""Any store renders, to the same bytes each time, and the page says what it does not know."""

import io
import json
import re
import time as clock
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path

import here
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stores
from factories import WHERE, make_trial

from dpbench import report, store
from dpbench.reporting import figure_specs, store_report, terminal
from dpbench.reporting.figure_specs import TimingFrames, TrialFrames
from dpbench.reporting.page import tables
from dpbench.store import history

FIGURES = (*figure_specs.specs(TrialFrames), *figure_specs.specs(TimingFrames))
STORES = (stores.one_trial, stores.only_failures, stores.hostile, stores.timings_only, stores.full)


Rendered = Callable[[Callable[[Path], Path]], Path]


@pytest.fixture
def drawn() -> None:
    """For tests that need figures and no store of `rendered`."""


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Figures are empty in tests that need none: rendering takes most of a report's time."""
    figures = {"drawn", "rendered"} & set(request.fixturenames)
    with nullcontext() if figures else here.blank_figures():
        yield


@pytest.fixture
def full(rendered: Rendered) -> Path:
    return rendered(stores.full)


@pytest.mark.parametrize("make", STORES, ids=lambda make: make.__name__)
def test_any_store_renders(make: Callable[[Path], Path], rendered: Rendered) -> None:
    root = rendered(make)
    page = (root / "report.html").read_text(encoding="utf-8")
    drawn = {name for name in FIGURES if (root / f"{name}.svg").exists()}
    assert page.count('<img src="data:') == len(drawn)
    assert page.count("Nothing to draw") == len(FIGURES) - len(drawn)


def test_nothing_at_all_is_exit_code_4_and_no_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = stores.empty(tmp_path / "results")
    assert report.main([str(root)]) == 4
    assert "holds no trial and no timing" in capsys.readouterr().err
    assert not (root / "report.html").exists()
    assert report.main([str(tmp_path / "nowhere")]) == 2


def test_timings_alone_answer_nothing(tmp_path: Path) -> None:
    root = stores.timings_only(tmp_path / "results")
    assert report.main([str(root), "--quiet"]) == 0
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "Timings only: no trial was trained." in page
    assert 'id="answers"' not in page
    assert "there is no answer" not in page


def test_the_page_says_it_all_and_loads_nothing(full: Path) -> None:
    page = (full / "report.html").read_text(encoding="utf-8")
    within = (
        "With epsilon at most {} (it spends {} at delta 1e-5, by PLD), the best setting is noise "
        "multiplier {}"
    )
    assert within.format(1, 0.9, 2) in page
    assert within.format(8, 4, 1) in page
    assert "42 trials finished on digits; epsilon at delta 1e-5, by PLD; " in page
    assert "1 of 43 trials asked for are not there yet" in page
    assert "1 trial failed" in page
    assert "diverged: the loss is nan" in page
    assert page.count("embedded digits") == 1
    assert "timed beside other work" in page
    assert "python -m dpbench.sweep mine.toml" in page
    assert "dataset = &#34;digits&#34;" in page
    assert "Doroshenko" in page
    assert "Mironov" in page
    text = page.partition("<script>")[0]
    links = {url for url in re.findall(r'(?:src|href)="([^"]{0,40})', text) if "data:" not in url}
    assert {"#answer", "#explore", "#table-arms", "#privacy_accuracy"} < links
    ids = {f"#{name}" for name in re.findall(r' id="([^"]+)"', text)}
    assert links - ids == set()  # no link leads out, or nowhere
    assert re.findall("<(?:script|link|iframe)[^>]+>", page) == []


def test_figures_lie_beside_it_with_their_numbers_and_are_the_same_each_time(full: Path) -> None:
    files = [full / "report.html"]
    drawn = [name for name in FIGURES if name != "model_frontiers"]  # the store has one model
    files += [full / f"{name}.{suffix}" for name in drawn for suffix in ("svg", "png", "csv")]
    first = {path: path.read_bytes() for path in files}
    assert report.main([str(full), "--quiet"]) == 0
    assert [path.name for path in files if path.read_bytes() != first[path]] == []
    points = pd.read_csv(full / "privacy_accuracy.csv")
    ends = points[points["end"]]
    assert len(ends) == 2 * 2  # of each batch size and noise the best clip
    assert set(ends["epsilon"]) == {4.0, 0.9}
    assert (points["frontier"] | points["end"]).all()


def test_a_figure_that_can_no_longer_be_drawn_does_not_stay_and_quiet_is_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = stores.one_trial(tmp_path / "results")
    stale = root / "overhead.svg"
    stale.write_text("of an earlier report")
    assert report.main([str(root), "--quiet"]) == 0
    assert not stale.exists()
    assert capsys.readouterr() == ("", "")


def test_seeds_that_have_failed_are_said(tmp_path: Path) -> None:
    root = stores.one_trial(tmp_path / "results")
    stores.add(root, make_trial(seed=7), stores.failed("diverged: the loss is nan"))
    assert report.main([str(root), "--quiet"]) == 0
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "Of 1 arm some seeds have failed" in page


def test_each_device_has_its_own_figure_of_overheads(tmp_path: Path) -> None:
    root = stores.one_trial(tmp_path / "results")
    for device, ratio in (("cpu", 4.0), ("cuda:0", 2.0)):
        stores.time(root, "opacus-hooks", [ratio] * 3, device=device)
    assert report.main([str(root), "--quiet"]) == 0
    for name, ratio in (("overhead_cpu", 4.0), ("overhead_cuda_0", 2.0)):
        assert pd.read_csv(root / f"{name}.csv")["overhead_ratio"].tolist() == [ratio]
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "What a step costs in time, on cuda:0" in page


def test_one_seed_and_few_arms_are_said_beside_the_figure(rendered: Rendered) -> None:
    page = (rendered(stores.one_trial) / "report.html").read_text(encoding="utf-8")
    assert "Every arm has one seed" in page
    assert "Only 1 private arm" in page
    assert "that of one run" in page
    assert "not the secure noise that a release needs" in page
    assert "There is no non-private trial to compare with." in page
    assert "does not say which command made it" in page
    assert "One epoch was trained" in page


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = stores.full(tmp_path)
    assert report.main([str(full), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["page"] == str(full / "report.html")
    assert (told["finished"], told["failed"]) == (42, 1)
    assert [each["epsilon_at_most"] for each in told["answers"]] == [1, 3, 8]
    assert told["answers"][0]["best"]["setting"]["noise_multiplier"] == 2
    assert (told["dataset"], told["delta"]) == ("digits", 1e-5)
    assert any("1 trial failed" in warning for warning in told["warnings"])


def test_the_terminal_says_dataset_delta_and_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main([str(stores.full(tmp_path))]) == 0
    said = capsys.readouterr().out
    assert said.startswith("42 trials finished on digits; epsilon at delta 1e-5, by PLD; ")
    assert "1 trial failed" in said
    assert "1 of 43 trials asked for are not there yet" in said


def test_a_store_with_only_failures_says_so(
    rendered: Rendered, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main([str(rendered(stores.only_failures))]) == 0
    said = capsys.readouterr().out
    assert said.startswith("0 trials finished on digits; model tutorial-cnn; batch size 64; 1 seed")
    assert "1 trial failed" in said


def test_a_store_with_only_baselines_has_no_table_of_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = stores.empty(tmp_path / "results")
    stores.add(root, make_trial("non-private"), stores.seen(1, 0.9))
    assert report.main([str(root)]) == 0
    said = capsys.readouterr().out
    assert "reaches 90.00 %" in said
    assert "No private trial was run" in said
    assert "spent" not in said
    stores.add(root, make_trial(), stores.seen(1, 0.8, 9.0))
    assert report.main([str(root)]) == 0
    assert "no trial" in capsys.readouterr().out  # within 1, 3 or 8


def test_a_name_does_not_move_the_terminals_cursor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = stores.empty(tmp_path / "results")
    stores.add(root, make_trial("non-private", dataset="a\x1b[2Jb"), stores.seen(1, 0.9))
    assert report.main([str(root)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_what_does_not_compare_is_in_the_table_and_the_page_says_so(tmp_path: Path) -> None:
    root = stores.one_trial(tmp_path / "results")
    for seed in range(2):
        stores.add(root, make_trial(seed=seed, max_grad_norm=2.0), stores.seen(1, 0.9, 2.0))
        stores.add(root, make_trial(seed=seed, max_grad_norm=3.0), stores.seen(1, 0.8, 2.0))
    for other in (
        make_trial(dataset="mnist"),
        make_trial(delta=1e-6),
        make_trial(validation_examples=100),
        make_trial("opacus-ew", max_grad_norm=2.0),
    ):
        stores.add(root, other, stores.seen(1, 0.99, 2.0))
    stores.time(root, "opacus-hooks", [2.0, 2.0, 2.0])
    stores.time(root, "opacus-hooks", [6.0, 6.0, 6.0], dataset="mnist")
    written = store_report.write_report(root)
    assert written is not None
    page = (root / "report.html").read_text(encoding="utf-8")
    assert (
        "In the table of arms, and in no figure or answer: trials on mnist; trials with "
        "validation_examples 100; trials with delta 1e-6; 1 arm of one seed, as others have "
        "several; settings by opacus-ew that another engine has trained, too." in page
    )
    assert "Timings on mnist are in no figure or answer." in page
    best = written.answers[1].best
    assert best is not None
    assert best.accuracy.mean == 0.9
    assert [time.ratio for time in best.step_times] == [2.0]
    drawn = pd.read_csv(root / "privacy_accuracy.csv")
    assert set(drawn["test_accuracy"]) == {0.9}
    arms = tables.arms_table(store.read_trials(root))
    assert {"dataset", "delta", "validation_examples", "engine"} <= {c.name for c in arms.columns}
    assert len(arms.rows) == 7


def test_the_table_of_arms_has_the_best_first_and_no_column_of_one_value(full: Path) -> None:
    table = tables.arms_table(store.read_trials(full))
    accuracies = [float(row[0]) for row in table.rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert not {"sampling", "momentum", "dataset", "delta"} & {c.name for c in table.columns}
    assert "dataset digits, delta 1e-5" in table.same
    assert "momentum" in table.csv.partition("\n")[0]


def test_what_shuffled_batches_rest_on_is_cited_where_there_are_any(
    full: Path, tmp_path: Path
) -> None:
    root = stores.empty(tmp_path / "results")
    stores.add(root, make_trial(sampling="shuffle"), stores.seen(1, 0.9, 2.0))
    assert report.main([str(root), "--quiet"]) == 0
    shuffled, poisson = (
        (folder / "report.html").read_text(encoding="utf-8") for folder in (root, full)
    )
    assert "balle2018improving" in shuffled
    assert "chua2024private" in shuffled
    assert "balle2018improving" not in poisson
    assert "papernot2022hyperparameter" in poisson  # its answers say what choosing costs
    # what gave the numbers, and not Opacus' accountant, which is a side column
    for name in ("Koskela", "Doroshenko", "Mironov", "dp_accounting"):
        assert name in poisson.partition('id="cite"')[2]
    assert "PRV" not in poisson.partition('id="cite"')[2].partition("<script>")[0]


def test_the_head_is_bold_on_a_terminal_without_no_color(
    rendered: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = store_report.write_report(rendered(stores.only_failures))
    assert written is not None
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1mepsilon  spent  accuracy %" in terminal.as_text(written)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in terminal.as_text(written)


@pytest.mark.slow
@pytest.mark.usefixtures("drawn")
def test_ten_thousand_trials_are_reported_in_twenty_seconds(tmp_path: Path) -> None:
    """Of processor time, which a busy machine does not stretch as much."""
    root = stores.empty(tmp_path / "results")
    row = store.trial_row(make_trial(), stores.seen(1, 0.9, 2.0), WHERE)
    settings = list(product(np.linspace(0.5, 5, 50), np.linspace(0.1, 4, 34), (64, 128), range(3)))
    many = pd.DataFrame([row]).loc[[0] * len(settings)].reset_index(drop=True)
    names = ["noise_multiplier", "max_grad_norm", "batch_size", "seed"]
    many[names] = settings
    many["trial_id"] = [f"{index:016x}" for index in range(len(many))]
    many["epsilon"] = 9 / many["noise_multiplier"]
    many["test_accuracy"] = 0.9 - many["noise_multiplier"] / 50 + many["seed"] / 500
    table = pa.Table.from_pandas(many, schema=store.TRIALS, preserve_index=False)
    pq.write_table(table, root / "trials" / "part-many.parquet")
    start = clock.process_time()
    assert report.main([str(root), "--quiet"]) == 0
    assert clock.process_time() - start < 20
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "3,400 rows" in page
    assert "16 noise multipliers of 100, over all batch sizes, are drawn" in page


def test_a_download_holds_no_formula_that_a_spreadsheet_would_run(rendered: Rendered) -> None:
    formula = '=HYPERLINK("http://x","y")'
    rows = store.read_trials(rendered(stores.only_failures)).assign(reason=formula)
    (cell,) = set(pd.read_csv(io.StringIO(tables.failures_table(rows).csv))["reason"])
    assert cell == f"'{formula}"


def test_epsilon_0_is_said_where_it_cannot_be_drawn(tmp_path: Path) -> None:
    root = stores.one_trial(tmp_path / "results")
    stores.add(root, make_trial(noise_multiplier=9.0), stores.seen(1, 0.2, 0.0))
    assert report.main([str(root), "--quiet"]) == 0
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "1 arm at epsilon 0 cannot stand on a log axis" in page
    only = stores.empty(tmp_path / "only")
    stores.add(only, make_trial(noise_multiplier=9.0), stores.seen(1, 0.2, 0.0))
    assert report.main([str(only), "--quiet"]) == 0
    assert "spent an epsilon above 0" in (only / "report.html").read_text(encoding="utf-8")


def test_shuffled_batches_are_answered_for_apart_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = stores.one_trial(tmp_path / "results")
    stores.add(root, make_trial(sampling="shuffle"), stores.seen(1, 0.99, 0.5))
    assert report.main([str(root)]) == 0
    said = capsys.readouterr().out
    poisson, shuffled = said.partition("Shuffled batches; epsilon for neighbours that differ in")[
        ::2
    ]
    assert "Poisson batches; epsilon for neighbours that differ by adding or removing" in poisson
    assert "  90.00  " in poisson
    assert "  99.00  " not in poisson
    assert "  99.00  " in shuffled
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "They share this axis without being ranked together" in page
    table = tables.arms_table(store.read_trials(root))
    at = [column.name for column in table.columns].index("neighbours")
    assert {row[at] for row in table.rows} == {"add or remove", "zero out"}


def test_the_digits_say_how_many_are_trained_on(tmp_path: Path) -> None:
    root = stores.empty(tmp_path / "results")
    stores.add(root, make_trial(validation_examples=200), stores.seen(1, 0.9, 2.0))
    assert report.main([str(root), "--quiet"]) == 0
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "the embedded digits (1,237 to train on, 200 more held out)" in page


def test_a_delta_that_publishes_examples_is_said_of_few_trials_too(tmp_path: Path) -> None:
    root = stores.one_trial(tmp_path / "results")
    for seed in (1, 2):
        stores.add(root, make_trial(seed=seed), stores.seen(1, 0.9, 2.0))
    stores.add(root, make_trial(delta=0.5), stores.seen(1, 0.9, 0.0))
    assert report.main([str(root), "--quiet"]) == 0
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "delta = 0.5 is not below 1/N = 0.0007" in page


def test_models_of_an_older_version_are_not_for_release_nor_those_that_confirm(
    tmp_path: Path,
) -> None:
    root = stores.empty(tmp_path / "results")
    old = replace(stores.seen(1, 0.9, 2.0), noise_derivation=None)
    stores.add(root, make_trial(), old)
    written = store_report.write_report(root)
    assert written is not None
    assert any("two of their models together have no epsilon" in note for note in written.notes)
    assert any("not for release" in note for note in written.notes)
    again = make_trial(seed=5)
    stores.add(root, again, stores.seen(1, 0.5, 2.0))
    asked = history.asked("dpbench.sweep", [], trial_ids=[make_trial().trial_id])
    history.write(root, replace(asked, confirming=(again.trial_id,)))
    written = store_report.write_report(root)
    assert written is not None
    (note,) = [note for note in written.notes if "of one seed share their initial" in note]
    assert note.startswith("All other trials")  # those of the older version share noise, too


def test_a_tuning_store_that_is_gone_is_said(tmp_path: Path) -> None:
    root = stores.one_trial(tmp_path / "results")
    asked = history.asked("dpbench.sweep", [], trial_ids=["a"], tuned_in=["results/gone"])
    history.write(root, asked)
    assert report.main([str(root), "--quiet"]) == 0
    page = (root / "report.html").read_text(encoding="utf-8")
    assert "Settings were tuned in results/gone, which is not there" in page


def test_a_confirmation_is_in_its_own_table_and_in_no_figure(tmp_path: Path) -> None:
    root = stores.one_trial(tmp_path / "results")
    again = make_trial(seed=5)
    stores.add(root, again, stores.seen(1, 0.5, 2.0))
    asked = history.asked("dpbench.sweep", [], trial_ids=[make_trial().trial_id])
    history.write(root, replace(asked, confirming=(again.trial_id,)))
    written = store_report.write_report(root)
    assert written is not None
    best = written.answers[1].best
    assert best is not None
    assert (best.accuracy.mean, best.confirmed_on) == (0.5, (5,))
    assert best.accuracy_when_chosen.mean == 0.9
    assert set(pd.read_csv(root / "privacy_accuracy.csv")["test_accuracy"]) == {0.9}
    assert not any("--confirm" in note for note in written.notes)
