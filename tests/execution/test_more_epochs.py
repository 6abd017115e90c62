"""A trial with more epochs is another trial: it starts anew, and the sweep says why."""

from pathlib import Path

import pytest
from factories import make_trial, rows

from dpbench import store, sweep
from dpbench.execution import plan

ASKED = (
    "--dataset digits --engine fused --noise 1 --clip 1 --bs 64 --lr 0.1 --no-baseline --no-timing "
    "--dry-run --device cpu --out"
).split()


@pytest.fixture
def two_epochs(tmp_path: Path) -> Path:
    """A store with one finished trial of two epochs, and one that failed."""
    store.create(tmp_path)
    store.write_trial(tmp_path, rows(make_trial("fused", epochs=2)))
    failed = rows(make_trial("fused", epochs=2, seed=1), epochs=1)
    store.write_trial(tmp_path, [failed[0] | {"status": "failed", "reason": "diverged"}])
    return tmp_path


@pytest.mark.parametrize(
    ("epochs", "seed", "told"), [(3, 0, True), (2, 0, False), (1, 0, False), (3, 1, False)]
)
def test_only_more_epochs_of_what_has_finished_start_anew(
    epochs: int, seed: int, told: bool, two_epochs: Path
) -> None:
    line = plan.starting_anew([make_trial("fused", epochs=epochs, seed=seed)], two_epochs)
    assert (line is not None) == told


def test_a_dry_run_says_that_they_start_anew(
    two_epochs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main([*ASKED, str(two_epochs), "--epochs", "5"]) == 0
    said = capsys.readouterr().err
    assert f"1 trial of {two_epochs} with fewer epochs is asked for with more, and starts" in said
    assert "a store holds rows, and no weights to go on from" in said
    assert sweep.main([*ASKED, str(two_epochs), "--epochs", "2"]) == 0
    assert capsys.readouterr().err == ""
