from pathlib import Path

import torch

from dpbench.datasets import Data, loading


def test_each_grey_level_is_a_token(digits: Data) -> None:
    data = loading.load("digits-tokens", Path("unused"), "cpu")
    tokens, targets = data.train
    assert (tokens.shape, tokens.dtype) == ((1_437, 64), torch.int64)
    assert (int(tokens.min()), int(tokens.max())) == (0, 16)
    assert torch.equal(targets, digits.train[1])
    # the corners of the enlarged image are those of the small one, row after row
    corners = digits.train[0][:, 0, [0, 0, -1, -1], [0, -1, 0, -1]].float() / 255 * 16
    assert torch.equal(corners.round().long(), tokens[:, [0, 7, 56, 63]])
