from dataclasses import replace
from pathlib import Path

import pytest

from dpbench import history
from dpbench.trial import BadInput

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


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "a.json").write_text("{")
    with pytest.raises(BadInput, match=r"a\.json is damaged"):
        history.read(tmp_path)
