"""An MLP on the rows of a CSV file: measurements of wines, three cultivars."""

from pathlib import Path

import numpy as np
from torch import nn

import dpbench


def make(width: int = 32) -> nn.Module:
    return nn.Sequential(nn.Linear(13, width), nn.Tanh(), nn.Linear(width, 3))


def load(root: Path) -> dpbench.Data:
    rows = np.loadtxt(root / "wine.csv", delimiter=",", skiprows=1)
    features, classes = rows[:, :-1], rows[:, -1].astype(int)
    features = (features - LOW) / (HIGH - LOW)
    return dpbench.Data(train=(features[:138], classes[:138]), test=(features[138:], classes[138:]))


# Ranges that are known beforehand, and not read off the data
LOW = np.array([11, 0.7, 1.3, 10, 70, 0.9, 0.3, 0.1, 0.4, 1.2, 0.4, 1.2, 270])
HIGH = np.array([15, 6, 3.3, 30, 170, 4, 5.1, 0.7, 3.6, 13, 1.8, 4, 1700])
