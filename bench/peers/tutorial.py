"""The tutorial's program for today's Opacus, as its reader would write it: one trial after another.

Uses nothing of dpbench. `python bench/peers/tutorial.py NOISE:CLIP ... --epochs N --data-root DIR`
trains one model for each pair and prints its epsilon, test accuracy and time.
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from opacus import PrivacyEngine
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

DELTA = 1e-5


class SampleConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 8, 2, padding=3)
        self.conv2 = nn.Conv2d(16, 32, 4, 2)
        self.fc1 = nn.Linear(32 * 4 * 4, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2, 1)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2, 1)
        x = F.relu(self.fc1(x.view(-1, 32 * 4 * 4)))
        return self.fc2(x)  # type: ignore[no-any-return]


def loaders(data_root: Path, batch_size: int) -> tuple[Any, Any]:
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    )
    train = datasets.MNIST(data_root, train=True, download=True, transform=transform)
    test = datasets.MNIST(data_root, train=False, transform=transform)
    return (
        DataLoader(train, batch_size=batch_size, shuffle=True),
        DataLoader(test, batch_size=1024),
    )


def train(noise: float, clip: float, given: argparse.Namespace) -> tuple[float, float]:
    """(epsilon, test accuracy) of one trial."""
    torch.manual_seed(0)
    train_loader, test_loader = loaders(given.data_root, given.batch_size)
    model: Any = SampleConvNet().to(given.device)
    optimizer: Any = torch.optim.SGD(model.parameters(), lr=given.learning_rate)
    engine = PrivacyEngine()
    model, optimizer, train_loader = engine.make_private(
        module=model,
        optimizer=optimizer,
        data_loader=train_loader,
        noise_multiplier=noise,
        max_grad_norm=clip,
    )
    epsilon = 0.0
    for _ in range(given.epochs):
        model.train()
        for images, labels in train_loader:
            images, labels = images.to(given.device), labels.to(given.device)  # noqa: PLW2901
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        epsilon = engine.get_epsilon(DELTA)
    model.eval()
    with torch.no_grad():
        correct = sum(
            int((model(x.to(given.device)).argmax(1) == y.to(given.device)).sum())
            for x, y in test_loader
        )
    return epsilon, correct / len(test_loader.dataset)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", nargs="*", metavar="NOISE:CLIP")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="default: PyTorch's own choice")
    parser.add_argument("--data-root", type=Path, default=os.environ.get("DPBENCH_DATA"))
    parser.add_argument("--short", action="store_true", help="one epoch of one trial")
    given = parser.parse_args(arguments)
    if given.short:
        given.trials, given.epochs, given.batch_size = ["1:1"], 1, 1024
    if not given.trials or given.data_root is None:
        print("Expected NOISE:CLIP for each trial, and --data-root.", file=sys.stderr)
        return 2
    try:
        datasets.MNIST(given.data_root, download=True)
    except (OSError, RuntimeError) as error:
        print(f"Cannot load MNIST from {given.data_root}: {error}", file=sys.stderr)
        return 2
    if given.threads:
        torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    for trial in given.trials:
        noise, clip = map(float, trial.split(":"))
        start = time.perf_counter()
        epsilon, accuracy = train(noise, clip, given)
        seconds = time.perf_counter() - start
        print(
            f"noise {noise:g} clip {clip:g}: epsilon {epsilon:.3f}, {100 * accuracy:.2f} %, "
            f"{seconds:.2f} s"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
