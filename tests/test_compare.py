"""The command as a user types it."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import make_trial
from test_sweep import imports_torch

from dpbench import compare, store

ROOT = Path(__file__).parent.parent
QUICK = ROOT / "results" / "mnist-quick"
TABLE = ROOT / "results" / "opacus-table"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def changed(source: Path, folder: str, column: str, factor: float) -> Path:
    """A copy of the store in which the private rows' column is multiplied."""
    after = Path("results") / "after"
    shutil.copytree(source, after)
    for path in (after / folder).iterdir():
        frame = pd.read_parquet(path)
        if not frame["engine"].str.contains("non-private").any():
            frame[column] *= factor
            # as the store writes it: one schema, whatever the file holds
            schema = store.TIMINGS if folder == "timings" else store.TRIALS
            frame.reindex(columns=schema.names).to_parquet(path, schema=schema)
    return after


def test_a_store_against_itself_is_no_regression(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([str(QUICK), str(QUICK)]) == 0
    said = capsys.readouterr().out
    assert "No regression." in said
    assert "fused, all 18 arms" in said
    assert "18 of 18 arms spend the same epsilon" in said
    drawn = Path("results") / "mnist-quick-mnist-quick"
    assert (drawn / "differences.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (drawn / "differences.svg").read_text(encoding="utf-8")


PLANTED = {
    "accuracy over seeds": (TABLE, "trials", "test_accuracy", 0.99, "accuracy -0."),
    "accuracy over arms": (QUICK, "trials", "test_accuracy", 0.98, "fused, all 18 arms: accuracy"),
    "overhead": (QUICK, "timings", "seconds_per_step", 2.5, "overhead ratio"),
    "epsilon": (TABLE, "trials", "epsilon", 1.00001, "epsilon"),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_regression_is_exit_code_3(
    planted: tuple[Path, str, str, float, str], capsys: pytest.CaptureFixture[str]
) -> None:
    source, folder, column, factor, line = planted
    after = changed(source, folder, column, factor)
    assert compare.main([str(source), str(after)]) == 3
    said = capsys.readouterr().out.splitlines()
    assert any(text.startswith("REGRESSION") and line in text for text in said)
    assert compare.main([str(after), str(source)]) == 0  # the other way round it is better


def test_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    after = changed(QUICK, "timings", "seconds_per_step", 2.5)
    assert compare.main([str(QUICK), str(after), "--json", "--headroom", "1.2"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert said["schema_version"] == store.SCHEMA_VERSION
    assert said["comparable"]
    assert len(said["regressions"]) == 12  # six private engines at two batch sizes
    assert {row["what"] for row in said["versions"]} >= {"torch_version", "opacus_version"}
    assert said["accuracy"][0]["low"] is None  # one seed: no interval


def test_a_trial_that_fails_now_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    from test_store import WHERE

    from dpbench.trial import Epoch

    for name, seen in (
        ("before", Epoch(epoch=1, test_accuracy=0.9, epsilon=1.0, accountant="prv")),
        ("after", Epoch(epoch=1, status="failed", reason="diverged: nan")),
    ):
        store.create(Path(name))
        store.write_trial(Path(name), [store.trial_row(make_trial(), seen, WHERE)])
    assert compare.main(["before", "after"]) == 3
    assert "was ok, and fails now: diverged: nan" in capsys.readouterr().out


def test_nothing_in_common_is_exit_code_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([str(QUICK), str(TABLE)]) == 4
    assert "no trial and no timing in common" in capsys.readouterr().err
    Path("empty").mkdir()
    assert compare.main([str(QUICK), "empty"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([str(QUICK), "nowhere"], "There is no folder nowhere"),
        ([str(QUICK), str(QUICK), "--headroom", "0.5"], "headroom=0.5 >= 1"),
        ([str(QUICK), str(QUICK), "--tolerance", "-1"], "tolerance=-1.0 >= 0"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_timings_on_other_hardware_are_said_not_to_be_compared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    after = Path("after")
    shutil.copytree(QUICK, after)
    for path in (after / "timings").iterdir():
        pd.read_parquet(path).assign(device_name="another").to_parquet(path, schema=store.TIMINGS)
    assert compare.main([str(QUICK), str(after)]) == 0
    assert "14 timings are not compared" in capsys.readouterr().out


def test_comparing_does_not_import_torch(tmp_path: Path) -> None:
    call = f"import dpbench.compare; dpbench.compare.main([{str(QUICK)!r}, {str(QUICK)!r}])"
    assert not imports_torch(call, tmp_path)
