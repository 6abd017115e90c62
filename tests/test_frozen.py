"""What a change of the house must not change: what engines compute, and what reports say.

The golden trial ids stand in test_trial.py. The numbers here were computed by the first edition.
"""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from factories import ROOT, make_trial

from dpbench import report
from dpbench.datasets import Data
from dpbench.training import loop
from dpbench.trial import ENGINES, NON_PRIVATE_ENGINES, EngineName

QUICK = ROOT / "results" / "mnist-quick"

# Figures of the first edition
FROZEN = ("accuracy_cells", "learning_curves", "overhead", "privacy_accuracy", "step_memory")

# Two epochs of digits: train loss of either, test loss and test accuracy after the second
PRIVATE = (2.2759626, 2.1861134, 2.1311837, 190 / 360)
NON_PRIVATE = (2.1390, 1.88, 1.3, 0.57)  # without clipping, rounding grows


@pytest.mark.parametrize("engine", ENGINES)
def test_the_trajectory_of_an_engine(engine: EngineName, digits: Data) -> None:
    trial = make_trial(engine, epochs=2, batch_size=64)
    first, second = loop.train(trial, digits, physical_batch_size=256)
    seen = (first.train_loss, second.train_loss, second.test_loss, second.test_accuracy)
    if engine in NON_PRIVATE_ENGINES:
        assert seen == pytest.approx(NON_PRIVATE, rel=0.2)
        assert first.train_loss == pytest.approx(NON_PRIVATE[0], rel=1e-3)
    else:
        assert seen == pytest.approx(PRIVATE, rel=1e-5)


def test_the_figures_numbers_of_a_committed_store(tmp_path: Path) -> None:
    root = tmp_path / "mnist-quick"
    shutil.copytree(QUICK, root)
    before = {name: pd.read_csv(root / f"{name}.csv") for name in FROZEN}
    for path in root.glob("*.csv"):
        path.unlink()
    assert report.main([str(root), "--quiet"]) == 0
    for name, frame in before.items():
        pd.testing.assert_frame_equal(pd.read_csv(root / f"{name}.csv"), frame, rtol=1e-9)
