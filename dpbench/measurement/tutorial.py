"""The tutorial's training loop as its reader runs it, to be timed end to end.

Not an engine: the loop brings its own loader, which reads one image at a time through
torchvision's transforms, and Opacus' own sampler, whose batches are not exactly those of a trial
(it samples with 1 / len(loader), so a batch size of 64 becomes 63).
"""

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from opacus import PrivacyEngine
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

from dpbench import models
from dpbench.datasets import Data, mnist

MODEL = "tutorial-cnn"
LEARNING_RATE = 1e-3  # of no interest here; the weights stay near where they start


class Tutorial:
    """A model, an optimizer and a loader, wired together as the tutorial does.

    Args:
        data: Of images of 1 x 28 x 28 pixels, on a CPU.
        batch_size: Of the loader.
        private: Whether `PrivacyEngine.make_private` wraps the three, with its defaults and with
            noise_multiplier and max_grad_norm of 1.
    """

    def __init__(self, data: Data, batch_size: int, *, private: bool) -> None:
        model: nn.Module = models.build(MODEL, "mnist", seed=0, device="cpu")
        optimizer: Any = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
        # DataLoader takes anything with a length and items
        loader: Any = DataLoader(Items(data), batch_size=batch_size, shuffle=True)  # type: ignore[arg-type]
        if private:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Secure RNG turned off")
                model, optimizer, loader = PrivacyEngine().make_private(
                    module=model,
                    optimizer=optimizer,
                    data_loader=loader,
                    noise_multiplier=1.0,
                    max_grad_norm=1.0,
                )
        self._model, self._optimizer, self._criterion = model, optimizer, nn.CrossEntropyLoss()
        self._batches: Iterator[tuple[Tensor, Tensor]] = itertools.chain.from_iterable(
            itertools.repeat(loader)
        )

    def run(self, steps: int) -> None:
        """Takes so many steps, epoch after epoch."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            for images, labels in itertools.islice(self._batches, steps):
                self._optimizer.zero_grad()
                loss = self._criterion(self._model(images), labels)
                loss.backward()
                self._optimizer.step()


class Items:
    """A dataset's training images one by one, as torchvision's MNIST hands them out."""

    def __init__(self, data: Data) -> None:
        self._images, self._labels = data.train
        self._transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(mnist.SPEC.mean, mnist.SPEC.std)]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self._images[index, 0].numpy(), mode="L")
        return self._transform(image), int(self._labels[index])
