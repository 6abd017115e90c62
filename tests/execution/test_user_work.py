"""What of the user's travels to workers, and what they make of it."""

import pickle
from pathlib import Path

import pytest

from dpbench import datasets, models
from dpbench.datasets import loading, user_data
from dpbench.errors import BadInput
from dpbench.execution.timing_plan import plan_timings
from dpbench.execution.user_work import UserWork
from dpbench.models import user_models
from dpbench.trial import Workload

FILE = """
import numpy as np
from torch import nn

from dpbench import Data
from parts import WIDTH


def make(depth=1):
    return nn.Sequential(*[nn.Linear(4, 4) for _ in range(depth - 1)], nn.Linear(4, WIDTH))


def load(root):
    data = (np.eye(4), np.arange(4) % 3)
    return Data(train=data, test=data)
"""


@pytest.fixture
def work(tmp_path: Path) -> UserWork:
    """Of a process that has found the files; this one knows nothing any more."""
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "parts.py").write_text("WIDTH = 3\n")
    data = user_data.introduce("mine.py:load", tmp_path, tmp_path)
    model = user_models.introduce("mine.py:make", {"depth": 2}, tmp_path)
    found = UserWork.of([Workload(dataset=data.code.name, model=model.name, batch_size=2)])
    user_data._known.clear()
    user_models._known.clear()
    return found


def sent(work: UserWork) -> None:
    received: UserWork = pickle.loads(pickle.dumps(work))  # noqa: S301  # ours
    received.admit()


def test_no_function_travels(work: UserWork) -> None:
    assert b"Linear" not in pickle.dumps(work.without_sources())
    assert b"torch" not in pickle.dumps(work.without_sources())


def test_a_worker_of_this_machine_imports_by_path(work: UserWork, tmp_path: Path) -> None:
    sent(work.without_sources())
    model = models.build("mine.py:make(depth=2)", "mine.py:load", seed=0, device="cpu")
    assert len(list(model.children())) == 2
    assert loading.load("mine.py:load", tmp_path, "cpu").train_examples == 4
    assert datasets.spec("mine.py:load").classes == 3


def test_a_worker_of_this_machine_refuses_changed_sources(work: UserWork, tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text("WIDTH = 4\n")
    with pytest.raises(BadInput, match="is not what it was when this sweep began"):
        sent(work.without_sources())


def test_a_worker_of_a_cluster_has_the_sources(work: UserWork, tmp_path: Path) -> None:
    for name in ("mine.py", "parts.py"):
        (tmp_path / name).unlink()
    sent(work)
    assert loading.load("mine.py:load", tmp_path / "elsewhere", "cpu").train_examples == 4


def test_timings_take_a_users_model_and_data(work: UserWork, tmp_path: Path) -> None:
    plan = plan_timings(
        dataset=f"{tmp_path}/mine.py:load",
        model=f"{tmp_path}/mine.py:make",
        model_args=["depth=2"],
        batch_size=[2],
    )
    workload = plan.workload(2)
    assert workload.model == "mine.py:make(depth=2)"
    assert workload.model_hash == work.models[0].code.hash
    assert plan.out == Path("results/mine.py-load-timing")
    assert "bookkeeping" in plan.engines
    assert "fused" not in plan.engines
    with pytest.raises(BadInput, match="Expected one model, not"):
        plan_timings(
            dataset=f"{tmp_path}/mine.py:load",
            model=f"{tmp_path}/mine.py:make",
            model_args={"depth": [1, 2]},
        )
