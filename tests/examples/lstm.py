"""An LSTM over the rows of an image; Opacus' DPLSTM, since nn.LSTM shows no step of its own."""

from opacus.layers import DPLSTM
from torch import Tensor, nn


class RowsClassifier(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.lstm = DPLSTM(8, width, batch_first=True)
        self.logits = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        states, _ = self.lstm(images[:, 0])  # [B, 1, 8, 8] -> [B, 8, width]
        logits: Tensor = self.logits(states[:, -1])
        return logits  # [B, 10]
