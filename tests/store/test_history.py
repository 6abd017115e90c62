import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from dpbench.errors import BadInput
from dpbench.store import history

ASKED = history.Sweep(
    command="python -m dpbench.sweep mine.toml --seeds 0 1",
    file_name="mine.toml",
    file_text='dataset = "digits"\n',
    dpbench_version="0.1.0",
    started_at="2026-01-02T03:04:05+00:00",
    trial_ids=("a", "b"),
)


def test_what_is_written_is_read_the_oldest_first(tmp_path: Path) -> None:
    later = replace(ASKED, command="python -m dpbench.sweep", started_at="2026-01-03T00:00:00")
    history.write(tmp_path, later)
    history.write(tmp_path, ASKED)
    assert history.read(tmp_path) == [ASKED, later]


def test_the_same_command_again_is_one_record(tmp_path: Path) -> None:
    history.write(tmp_path, ASKED)
    again = replace(ASKED, started_at="2026-02-02T00:00:00")
    history.write(tmp_path, again)
    assert history.read(tmp_path) == [again]
    changed = replace(again, file_text='dataset = "mnist"\n')
    history.write(tmp_path, changed)
    assert len(history.read(tmp_path)) == 2


def test_an_older_store_has_none(tmp_path: Path) -> None:
    assert history.read(tmp_path) == []


def test_a_damaged_record_is_passed_over_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history.write(tmp_path, ASKED)
    (record,) = (tmp_path / "sweeps").iterdir()
    whole = json.loads(record.read_text())
    damaged = {
        "cut": "{",
        "list": "[1]",
        "deep": "[" * 100_000,
        "lacking": json.dumps({"command": "x"}),
        "number": json.dumps(whole | {"started_at": 5}),
        "ids": json.dumps(whole | {"trial_ids": [["a"]]}),
    }
    for name, content in damaged.items():
        (tmp_path / "sweeps" / f"{name}.json").write_text(content)
    (tmp_path / "sweeps" / "bytes.json").write_bytes(b"\xff")
    (tmp_path / "sweeps" / "folder.json").mkdir()
    assert history.read(tmp_path) == [ASKED]
    for name in (*damaged, "bytes", "folder"):
        assert f"{name}.json is damaged" in caplog.text


def test_sweeps_that_cannot_be_listed_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sweeps").symlink_to("sweeps")
    assert history.read(tmp_path) == []
    assert f"Cannot read {tmp_path / 'sweeps'}: Too many levels" in caplog.text


def test_what_a_newer_dpbench_has_added_is_passed_over(tmp_path: Path) -> None:
    history.write(tmp_path, ASKED)
    (record,) = (tmp_path / "sweeps").iterdir()
    record.write_text(json.dumps(json.loads(record.read_text()) | {"novel": 1}))
    assert history.read(tmp_path) == [ASKED]


def test_a_file_that_was_a_pipe_is_recorded_as_it_was_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    asked = history.asked("dpbench.sweep", [str(pipe)], pipe, 'dataset = "digits"', ["a"])
    assert asked.file_text == 'dataset = "digits"'


def test_names_that_are_not_utf_8_are_kept(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"b\xff")
    odd = replace(ASKED, command="x bad\udcff.toml", file_name="bad\udcff.toml")
    history.write(root, odd)
    assert history.read(root) == [odd]


def test_a_record_that_could_not_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.write(tmp_path, ASKED)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BadInput, match="No space left"):
        history.write(tmp_path, replace(ASKED, started_at="2026-02-02T00:00:00"))
    assert len(list((tmp_path / "sweeps").iterdir())) == 1
    assert history.read(tmp_path) == [ASKED]


def test_the_epsilons_to_answer_for_are_those_of_all_sweeps(tmp_path: Path) -> None:
    older = replace(ASKED, command="python -m dpbench.sweep")  # says none: 1, 3 and 8
    fifty = replace(ASKED, answer_at=(50.0,))
    timing = replace(ASKED, command="python -m dpbench.timing", trial_ids=())
    assert history.epsilons([]) == history.epsilons([older]) == (1, 3, 8)
    assert history.epsilons([timing, fifty]) == (50,)
    assert history.epsilons([fifty, older]) == (1, 3, 8, 50)


def test_a_trial_that_a_grid_has_confirms_nothing() -> None:
    one = replace(ASKED, trial_ids=("a",), confirming=("c", "d"))
    other = replace(ASKED, trial_ids=("b", "c"))
    assert history.confirmations([one]) == {"c", "d"}
    assert history.confirmations([one, other]) == {"d"}


def test_what_has_confirmed_stays_recorded(tmp_path: Path) -> None:
    history.write(tmp_path, replace(ASKED, confirming=("c",)))
    kept = history.write(tmp_path, replace(ASKED, confirming=("d",)))
    assert kept.confirming == ("c", "d")
    assert history.read(tmp_path) == [kept]


def test_a_record_of_an_older_dpbench_is_read(tmp_path: Path) -> None:
    history.write(tmp_path, ASKED)
    (record,) = (tmp_path / "sweeps").iterdir()
    content = json.loads(record.read_text())
    for name in ("answer_at", "confirming", "tuned_in"):
        del content[name]
    record.write_text(json.dumps(content))
    assert history.read(tmp_path) == [ASKED]
    record.write_text(json.dumps(content | {"answer_at": ["three"]}))
    assert history.read(tmp_path) == []
