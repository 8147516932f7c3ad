"""Augmentation: identity at zero, the background outside, and shifts by whole pixels where they can be checked."""

from __future__ import annotations

import pytest
import torch

from rcc.errors import UserError
from rcc.learning.affine import Affine

BLACK = torch.tensor([-1.0, -1.0, -1.0])


def test_nothing_moves_at_zero() -> None:
    pixels = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    moved = Affine(0, 0, 0)(pixels, torch.Generator().manual_seed(1), BLACK)
    torch.testing.assert_close(moved, pixels, rtol=1e-4, atol=1e-5)


def test_a_plain_background_stays_plain_under_every_move() -> None:
    pixels = BLACK.view(1, 3, 1, 1).expand(8, 3, 16, 16)
    assert torch.equal(Affine(180, 0.5, 1.0)(pixels, torch.Generator().manual_seed(0), BLACK), pixels)


def test_a_shift_moves_by_at_most_its_share_of_the_side() -> None:
    pixels = torch.full((200, 3, 20, 20), -1.0)
    pixels[:, :, 10, 10] = 1.0
    moved = Affine(0, 0, 0.1)(pixels, torch.Generator().manual_seed(0), BLACK) + 1
    mass = moved[:, 0] / moved[:, 0].sum((1, 2), keepdim=True)
    place = (mass.sum(1) * torch.arange(20.0)).sum(1) - 10
    assert place.abs().max() < 0.1 * 20 + 1e-3
    assert place.abs().max() > 0.09 * 20
    assert place.min() < 0 < place.max()


def test_a_rotation_keeps_the_centre_and_its_angle_is_bounded() -> None:
    pixels = torch.full((200, 3, 21, 21), -1.0)
    pixels[:, :, 10, 18] = 1.0  # eight pixels right of the centre
    moved = Affine(30, 0, 0)(pixels, torch.Generator().manual_seed(0), BLACK) + 1
    mass = moved[:, 0] / moved[:, 0].sum((1, 2), keepdim=True)
    across = (mass.sum(1) * torch.arange(21.0)).sum(1) - 10
    down = (mass.sum(2) * torch.arange(21.0)).sum(1) - 10
    angle = torch.rad2deg(torch.atan2(down, across)).abs()
    assert angle.max() < 31
    assert angle.max() > 27
    torch.testing.assert_close(torch.hypot(across, down), torch.full((200,), 8.0), atol=0.1, rtol=0)


def test_the_generator_decides_the_moves() -> None:
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    one, same, other = (Affine()(pixels, torch.Generator().manual_seed(seed), BLACK) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_all_options_out_of_range_are_reported_at_once() -> None:
    with pytest.raises(UserError) as error:
        Affine(200, 1.0, -0.1)
    assert len(error.value.problems) == 3
