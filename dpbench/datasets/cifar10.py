"""CIFAR-10: colour photographs of animals and vehicles (Krizhevsky 2009)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpbench.datasets import torchvision_reader
from dpbench.datasets.dataset_spec import DatasetSpec, own_constants

if TYPE_CHECKING:
    from torch import Tensor

_ARCHIVE, _FOLDER = "cifar-10-python.tar.gz", "cifar-10-batches-py"
_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")


class _PickledBatches:
    """The pickles of the Python version of CIFAR-10. A `Source`.

    torchvision reads them. It compares their checksums before it unpickles them, since a pickle
    can run code.
    """

    def present(self, data_root: Path) -> bool:
        """As `Source.present`."""
        return self.unpacked(data_root) or (data_root / _ARCHIVE).is_file()

    def unpacked(self, data_root: Path) -> bool:
        """As `Source.unpacked`."""
        return all((data_root / _FOLDER / name).is_file() for name in _FILES)

    def read(self, data_root: Path) -> "tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]":
        """As `Source.read`: uint8 [N, 3, 32, 32] and int64 [N]."""
        train, test = torchvision_reader.read("CIFAR10", data_root)
        return _tensors(train), _tensors(test)

    def remedy(self, data_root: Path) -> str:
        """As `Source.remedy`."""
        return f"Put {_ARCHIVE} into {data_root}"


def _tensors(images: Any) -> "tuple[Tensor, Tensor]":
    import torch

    pixels = torch.from_numpy(images.data).permute(0, 3, 1, 2)  # [N, 32, 32, 3] -> [N, 3, 32, 32]
    return pixels.contiguous(), torch.tensor(images.targets)


SPEC = DatasetSpec(
    title="CIFAR-10",
    train_examples=50_000,
    test_examples=10_000,
    input_shape=(3, 32, 32),
    classes=10,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    origin=own_constants("CIFAR-10"),
    model="tanh-cnn",
    # The range of noise and clips of MNIST's, at batches that are large enough to learn from.
    sweep={
        "noise_multiplier": [0.6, 1.5, 4.0],
        "max_grad_norm": [0.5, 1.0, 2.0],
        "batch_size": [512, 2048],
        "epochs": 10,
    },
    source=_PickledBatches(),
)
