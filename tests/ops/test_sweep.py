"""The sweep's two ingredients by their definitions, and its halving against doing one column after another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rcc.ops.sweep import descending, sweep, upper_factor


def matrix(m: int, n: int, seed: int = 0) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_upper_factor_is_the_inverse_of_the_upper_cholesky_factor_of_the_inverse() -> None:
    moment = matrix(20, 8).T @ matrix(20, 8)
    factor = upper_factor(moment)
    torch.testing.assert_close(factor @ factor.T, moment)
    torch.testing.assert_close(factor.inverse(), torch.linalg.cholesky(moment.inverse(), upper=True))
    for column in (0, 3, 7):
        left = moment[column:, column:].inverse()[0, 0]
        torch.testing.assert_close(factor[column, column] ** 2, 1 / left)


def test_the_order_is_by_falling_size_with_groups_together_and_equal_ones_as_they_stand() -> None:
    sizes = torch.tensor([1.0, 3.0, 2.0, 3.0, 5.0, 0.0])
    assert descending(sizes).tolist() == [4, 1, 3, 2, 0, 5]
    assert descending(sizes, 2).tolist() == [2, 3, 4, 5, 0, 1]


@pytest.mark.parametrize("width", [1, 15, 33, 100])
@pytest.mark.parametrize("block", [1, 16, 40, 128])
def test_halving_gives_what_one_column_after_another_gives(width: int, block: int) -> None:
    start, wanted, feedback = matrix(3, width), matrix(3, width, 1), 0.1 * matrix(width, width, 2)
    settled = []

    def settle(first: int, values: Tensor):
        settled.append((first, values.T.clone()))
        return lambda column, value: value.round()

    swept = sweep(start, wanted, feedback, settle, block)
    targets, blocks = wanted.clone(), []
    for column in range(width):
        if column % block == 0:
            blocks.append((column, targets[:, column : column + block].clone()))
        change = start[:, column] - targets[:, column].round()
        targets[:, column].round_()
        targets[:, column + 1 :] += change[:, None] * feedback[column, column + 1 :]
    torch.testing.assert_close(swept, targets, rtol=0, atol=1e-9)
    assert [first for first, _ in settled] == [first for first, _ in blocks]
    for (_, seen), (_, expected) in zip(settled, blocks, strict=True):
        torch.testing.assert_close(seen, expected, rtol=0, atol=1e-9)
