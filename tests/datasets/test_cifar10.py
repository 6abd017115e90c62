import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import make_trial
from torchvision.datasets import CIFAR10

from dpbench import datasets
from dpbench.datasets import cifar10, loading
from dpbench.errors import BadInput
from dpbench.execution import backend, trial_task
from dpbench.training import loop

LABELS = 10


def write(root: Path, monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    """Random files in the format of CIFAR-10, whose checksums torchvision expects meanwhile.

    Args:
        root: Their data root.
        monkeypatch: Takes the checksums back.
        examples: In each of the six batches.
    """
    folder, random = root / "cifar-10-batches-py", np.random.default_rng(0)
    folder.mkdir(parents=True)
    sums = {}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = {
            "data": random.integers(0, 256, (examples, 3 * 32 * 32), np.uint8),
            "labels": [each % LABELS for each in range(examples)],
        }
        sums[name] = dump(folder / name, batch)
    meta = {"label_names": [f"class {each}" for each in range(LABELS)]}
    sums["batches.meta"] = dump(folder / "batches.meta", meta)
    for attribute in ("train_list", "test_list"):
        known = [[name, sums[name]] for name, _ in getattr(CIFAR10, attribute)]
        monkeypatch.setattr(CIFAR10, attribute, known)
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})


def dump(path: Path, content: object) -> str:
    """Writes the pickle and returns its checksum."""
    pickled = pickle.dumps(content, protocol=2)
    path.write_bytes(pickled)
    return hashlib.md5(pickled, usedforsecurity=False).hexdigest()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The data root of a CIFAR-10 of 5 x 20 training examples and 20 test examples."""
    write(tmp_path, monkeypatch, examples=20)
    monkeypatch.setattr(
        cifar10, "SPEC", replace(cifar10.SPEC, train_examples=100, test_examples=20)
    )
    return tmp_path


def test_it_is_read_as_torchvision_reads_it(small: Path) -> None:
    data = loading.load("cifar10", small, "cpu")
    for train, (inputs, targets) in ((True, data.train), (False, data.test)):
        theirs = CIFAR10(small, train=train)
        assert inputs.shape == (len(theirs), 3, 32, 32)
        assert targets.tolist() == theirs.targets
        image, _ = theirs[7]
        assert torch.equal(inputs[7].permute(1, 2, 0), torch.from_numpy(np.array(image)))


def test_each_channel_is_normalised_by_its_own_constants(small: Path) -> None:
    data = loading.load("cifar10", small, "cpu")
    inputs, _ = data.batch(torch.arange(100))
    raw = data.train[0] / 255
    spec = datasets.spec("cifar10")
    for channel in range(3):
        expected = (raw[:, channel] - spec.mean[channel]) / spec.std[channel]
        torch.testing.assert_close(inputs[:, channel], expected)


def test_its_files_are_found_packed_or_unpacked(tmp_path: Path, small: Path) -> None:
    assert datasets.present("cifar10", small)
    assert datasets.unpacked("cifar10", small)
    other = tmp_path / "other"
    other.mkdir()
    assert not datasets.present("cifar10", other)
    (other / "cifar-10-python.tar.gz").touch()
    assert datasets.present("cifar10", other)
    assert not datasets.unpacked("cifar10", other)


def test_files_of_another_size_are_bad_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(tmp_path, monkeypatch, examples=20)
    message = "training set has 100 inputs of 3 x 32 x 32, not 50,000 of 3 x 32 x 32"
    with pytest.raises(BadInput, match=message):
        loading.load("cifar10", tmp_path, "cpu")


def test_pickles_with_other_checksums_are_never_unpickled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (tmp_path / "attacked",)

    write(tmp_path, monkeypatch, examples=1)
    dump(tmp_path / "cifar-10-batches-py" / "data_batch_3", Attack())
    monkeypatch.setattr(CIFAR10, "url", (tmp_path / "nowhere").as_uri())  # no download
    with pytest.raises(
        BadInput, match=r"Cannot load dataset=cifar10 .* Put cifar-10-python.tar.gz"
    ):
        loading.load("cifar10", tmp_path, "cpu")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("engine", ["bookkeeping", "opacus-functorch"])
def test_its_default_model_trains_on_it(engine: str, small: Path) -> None:
    data = loading.load("cifar10", small, "cpu")
    trial = make_trial(engine, dataset="cifar10", model="tanh-cnn", batch_size=50)
    (seen,) = loop.train(trial, data)
    assert seen.steps == 2
    assert seen.test_loss == pytest.approx(2.3, abs=0.2)  # log(10), of random images


@pytest.mark.long
def test_a_trial_trains_on_files_of_its_full_size(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(tmp_path, monkeypatch, examples=10_000)
    workers = backend.Workers(
        data_root=tmp_path, devices=("cpu",), jobs=1, threads=1, physical_batch_size=256
    )
    trial = make_trial("bookkeeping", dataset="cifar10", model="mlp", batch_size=2048)
    (row,) = trial_task.run_trial(trial, workers, concurrent=0)
    assert (row["status"], row["steps"]) == ("ok", 24)  # round(50,000 / 2,048)
    assert row["test_accuracy"] == pytest.approx(0.1, abs=0.02)  # of random labels
