"""One vector a text: by the mean, the largest, the first or the last of the tokens that count."""

from __future__ import annotations

import torch

from rcc.models.pooling import POOLINGS

STATES = torch.arange(12.0).reshape(2, 3, 2)
RIGHT, LEFT = torch.tensor([[1, 1, 0], [1, 1, 1]]), torch.tensor([[0, 1, 1], [1, 1, 1]])


def test_padding_does_not_count_on_either_side() -> None:
    assert POOLINGS["mean"](STATES, RIGHT).tolist() == [[1, 2], [8, 9]]
    assert POOLINGS["mean"](STATES, LEFT).tolist() == [[3, 4], [8, 9]]
    assert POOLINGS["first"](STATES, LEFT).tolist() == [[2, 3], [6, 7]]
    assert POOLINGS["last"](STATES, RIGHT).tolist() == [[2, 3], [10, 11]]
    assert POOLINGS["last"](STATES, LEFT).tolist() == [[4, 5], [10, 11]]
    assert POOLINGS["max"](-STATES, RIGHT).tolist() == [[0, -1], [-6, -7]]
    torch.testing.assert_close(POOLINGS["weighted_mean"](STATES, RIGHT)[0], torch.tensor([4.0, 7.0]) / 3)
    torch.testing.assert_close(POOLINGS["root_mean"](STATES, RIGHT)[0], torch.tensor([2.0, 4.0]) / 2**0.5)
