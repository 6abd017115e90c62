import math
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from dpbench import datasets
from dpbench.datasets import Data, idx, loading
from dpbench.errors import BadInput

FILES = idx.IdxFiles("MNIST")


def test_digits_are_images_of_the_tutorials_size(digits: Data) -> None:
    spec = datasets.spec("digits")
    assert digits.train[0].shape == (spec.train_examples, 1, 28, 28)
    assert digits.test[0].shape == (spec.test_examples, 1, 28, 28)
    assert digits.train[0].dtype == torch.uint8
    assert digits.train[0].max() == 255
    assert set(digits.train[1].tolist()) == set(range(10))


def test_mnist_is_the_real_one(mnist_root: Path) -> None:
    mnist = loading.load("mnist", mnist_root, "cpu")
    assert mnist.train[0].shape == (60_000, 1, 28, 28)
    assert mnist.test[1].shape == (10_000,)
    # The constants by which every image is normalised are those of MNIST's training pixels.
    pixels = mnist.prepared(mnist.train[0])
    assert float(pixels.mean()) == pytest.approx(0, abs=1e-3)
    assert float(pixels.std()) == pytest.approx(1, abs=1e-3)


def test_a_dataset_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()  # a data root that cannot be made
    with pytest.raises(BadInput, match=r"Cannot load dataset=kmnist from .*--data-root"):
        loading.load("kmnist", blocked, "cpu")


def test_the_examples_held_out_are_the_same_for_all_and_trained_on_by_none(
    digits: Data,
) -> None:
    split = loading.load("digits", Path(), "cpu", 400)
    again = loading.load("digits", Path("elsewhere"), "cpu", 400)
    assert split.validation is not None
    assert again.validation is not None
    assert (len(split.train[1]), len(split.validation[1])) == (1_037, 400)
    assert torch.equal(split.validation[0], again.validation[0])
    assert torch.equal(split.test[0], digits.test[0])
    # together they are the whole training set again
    parts = torch.cat([split.train[0], split.validation[0]]).flatten(1).tolist()
    assert sorted(parts) == sorted(digits.train[0].flatten(1).tolist())
    # a choice at random: every class in about its share, not the last ones of a sorted file
    counts = torch.bincount(split.validation[1], minlength=10)
    assert counts.min() > 20
    assert digits.validation is None


def test_random_data_has_the_datasets_shape_and_type(digits: Data) -> None:
    data = loading.random("digits", 100, "cpu")
    assert data.train_examples == 100
    ours, theirs = (each.batch(torch.arange(7)) for each in (data, digits))
    for mine, real in zip(ours, theirs, strict=True):
        assert (mine.shape, mine.dtype) == (real.shape, real.dtype)
    assert not torch.equal(ours[0], theirs[0])


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(5_000_000)])
def test_files_that_hold_something_else_are_bad_input(tmp_path: Path, content: bytes) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(content)
    with pytest.raises(BadInput, match="Cannot load dataset=mnist"):
        loading.load("mnist", tmp_path, "cpu")


def test_mnist_is_read_as_torchvision_reads_it(mnist_root: Path) -> None:
    mnist = loading.load("mnist", mnist_root, "cpu")
    for train, images, labels in (
        (True, mnist.train[0], mnist.train[1]),
        (False, mnist.test[0], mnist.test[1]),
    ):
        theirs = MNIST(mnist_root, train=train)
        assert torch.equal(images[:, 0], theirs.data)
        assert torch.equal(labels, theirs.targets)


def test_files_of_the_right_size_that_hold_something_else_are_bad_input(tmp_path: Path) -> None:
    for path, shape in FILES.files(tmp_path).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(4 + 4 * len(shape) + math.prod(shape)))
    assert datasets.unpacked("mnist", tmp_path)
    with pytest.raises(BadInput, match="train-images-idx3-ubyte does not begin as an IDX file"):
        loading.load("mnist", tmp_path, "cpu")


def _write(data_root: Path, sizes: dict[str, int], pixels: int = 28, label: int = 9) -> None:
    """Files as torchvision reads them, unpacked, with so many images or labels in each."""
    raw = data_root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in FILES.files(data_root):
        count = sizes[path.name.removesuffix("-ubyte")]
        shape = (count, pixels, pixels) if "images" in path.name else (count,)
        path.write_bytes(idx.header(shape) + bytes([label]) * math.prod(shape))


UNLIKE = {
    "labels of another set": (
        {"train-images-idx3": 600, "train-labels-idx1": 100},
        {},
        "training set has 600 inputs and 100 targets",
    ),
    "test labels of another set": (
        {"train-images-idx3": 60_000, "train-labels-idx1": 60_000, "t10k-labels-idx1": 90},
        {},
        "test set has 100 inputs and 90 targets",
    ),
    "a smaller set": (
        {"train-images-idx3": 600, "train-labels-idx1": 600},
        {},
        "training set has 600 inputs of 1 x 28 x 28, not 60,000 of 1 x 28 x 28",
    ),
    "larger images": (
        {"train-images-idx3": 600, "train-labels-idx1": 600},
        {"pixels": 32},
        "600 inputs of 1 x 32 x 32",
    ),
    "other classes": (
        {"train-images-idx3": 60_000, "train-labels-idx1": 60_000, "t10k-images-idx3": 10_000}
        | {"t10k-labels-idx1": 10_000},
        {"label": 61},
        "training targets are 61 to 61, not 0 to 9",
    ),
}


@pytest.mark.parametrize(("sizes", "more", "message"), UNLIKE.values(), ids=UNLIKE.keys())
def test_files_that_do_not_belong_together_are_one_line(
    sizes: dict[str, int], more: dict[str, int], message: str, tmp_path: Path
) -> None:
    _write(tmp_path, {"t10k-images-idx3": 100, "t10k-labels-idx1": 100} | sizes, **more)
    with pytest.raises(BadInput, match=rf"Cannot load dataset=mnist from .*: .*{message}") as found:
        loading.load("mnist", tmp_path, "cpu")
    assert len(str(found.value).splitlines()) == 1
