"""Searches as a user types them, in this process."""

import json
from pathlib import Path
from typing import Any

import here
import pandas as pd
import pytest

from dpbench import sweep

TINY = (
    "--dataset digits --noise-multiplier 1 --max-grad-norm 0.1,1 --learning-rate log:0.1:16 "
    "--batch-size 256 --model logistic --validation 10% --no-timing --device cpu --jobs 1"
).split()


def ids(folder: Path) -> set[str]:
    return set(pd.read_parquet(folder / "results" / "digits-sweep" / "trials")["trial_id"])


def test_a_search_is_extended_and_answered(tmp_path: Path) -> None:
    first = here.sweep(*TINY, "--epochs", "1", "--search", "2", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "Search: 2 settings of 2 drawn, 2 trials, and 2 non-private ones." in first.stderr
    before = ids(tmp_path)
    more = here.sweep(*TINY, "--epochs", "1", "--search", "4", "--json", cwd=tmp_path)
    assert "6 trials on digits, 4 of them done before: 2 to run" in more.stderr
    assert before < ids(tmp_path)
    (answer, *_) = [each for each in json.loads(more.stdout)["answers"] if each["best"]]
    assert answer["best"]["chosen_by"] == "validation_accuracy"
    assert answer["best"]["price"]["settings"] == 4


def test_a_sweep_file_holds_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "search.toml"
    path.write_text(
        'dataset = "digits"\nsearch = 3\nnoise_multiplier = [1, 2]\nepochs = [1, 2]\n'
        "learning_rate = { low = 0.1, high = 16, log = true }\nmax_grad_norm = 1\n"
        'batch_size = "64:256"\n'
    )
    assert sweep.main([str(path), "--dry-run", "--device", "cpu", "--json"]) == 0
    said = capsys.readouterr()
    assert "Search: 3 settings of 3 drawn, 6 trials at 2 targets" in said.err
    trials: list[dict[str, Any]] = json.loads(said.out)["trials"]
    private = [each for each in trials if each["noise_multiplier"]]
    assert len(private) == 6
    assert {each["epochs"] for each in private} == {1, 2}
    assert all(64 <= each["batch_size"] <= 256 for each in private)
    assert {each["epochs"] for each in trials if each not in private} == {2}
