"""Crops: nothing at the plainest settings, windows of the promised share, mirrors, and colours about their means."""

from __future__ import annotations

import pytest
import torch

from rcc.errors import UserError
from rcc.learning.cropping import Crop

STILL = {"area": 1.0, "flip": 0.0, "jitter": 0.0}


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramps(count: int, side: int) -> torch.Tensor:
    """Red rises from left to right, green from top to bottom, both as pixel positions; blue is plain."""
    place = torch.arange(side, dtype=torch.float32)
    red, green = place.expand(side, side), place[:, None].expand(side, side)
    return torch.stack([red, green, torch.zeros(side, side)]).expand(count, 3, side, side)


def test_nothing_changes_at_the_plainest_settings() -> None:
    pixels = torch.randn(4, 3, 8, 8, generator=drawn())
    torch.testing.assert_close(Crop(**STILL)(pixels, drawn(1), 8), pixels, rtol=1e-4, atol=1e-5)


def test_a_flip_of_probability_one_mirrors_every_image() -> None:
    pixels = torch.randn(4, 3, 8, 8, generator=drawn())
    mirrored = Crop(area=1.0, flip=1.0, jitter=0.0)(pixels, drawn(1), 8)
    torch.testing.assert_close(mirrored, pixels.flip(-1), rtol=1e-4, atol=1e-5)


def test_half_the_images_are_mirrored_at_a_half() -> None:
    cropped = Crop(area=0.9, flip=0.5, jitter=0.0)(ramps(400, 16), drawn(), 16)
    mirrored = (cropped[:, 0, 8, 0] > cropped[:, 0, 8, -1]).sum()
    assert 160 < mirrored < 240


def test_windows_lie_inside_and_have_the_promised_share_and_aspect() -> None:
    cropped = Crop(area=0.4, flip=0.0, jitter=0.0)(ramps(400, 40), drawn(), 20)
    assert cropped.shape == (400, 3, 20, 20)
    # A ramp stays a ramp, so twenty pixels of a window of share w span (20 - 1) · w · 40 / 20 positions.
    wide = (cropped[:, 0, 10, 18] - cropped[:, 0, 10, 1]) / 17 * 20 / 40
    high = (cropped[:, 1, 18, 10] - cropped[:, 1, 1, 10]) / 17 * 20 / 40
    area, aspect = wide * high, wide / high
    assert 0.39 < area.min() < 0.45
    assert area.max() < 1.001
    assert 0.74 < aspect.min() < 0.8
    assert 1.25 < aspect.max() < 1.34
    assert cropped.min() >= 0
    assert cropped.max() <= 39
    assert (cropped[:, 0].mean((1, 2)) < 15).any()
    assert (cropped[:, 0].mean((1, 2)) > 24).any()


def test_colours_change_by_at_most_the_jitter_and_grey_stays_grey() -> None:
    pixels = torch.randn(300, 1, 8, 8, generator=drawn()).expand(300, 3, 8, 8)
    changed = Crop(area=1.0, flip=0.0, jitter=0.2)(pixels, drawn(1), 8)
    torch.testing.assert_close(changed[:, 0], changed[:, 2], rtol=1e-3, atol=1e-4)
    spread = pixels.std((1, 2, 3))
    contrast = changed.std((1, 2, 3)) / spread
    moved = (changed.mean((1, 2, 3)) - pixels.mean((1, 2, 3))) / spread
    for change in (contrast - 1, moved):
        assert change.abs().max() < 0.2001
        assert change.min() < -0.15
        assert change.max() > 0.15


def test_saturation_moves_colours_about_their_grey() -> None:
    pixels = torch.zeros(200, 3, 4, 4)
    pixels[:, 0] = 1.0  # plain red: grey 0.299, so red and green differ by 1 + saturation, times the contrast
    changed = Crop(area=1.0, flip=0.0, jitter=0.1)(pixels, drawn(), 4)
    difference = (changed[:, 0] - changed[:, 1]).mean((1, 2))
    assert 0.9 * 0.9 <= difference.min() < 0.87
    assert 1.13 < difference.max() <= 1.1 * 1.1 + 1e-6
    torch.testing.assert_close(changed[:, 1], changed[:, 2])


def test_the_generator_decides() -> None:
    pixels = torch.randn(2, 3, 8, 8, generator=drawn())
    one, same, other = (Crop()(pixels, drawn(seed), 8) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_all_options_out_of_range_are_reported_at_once() -> None:
    with pytest.raises(UserError) as error:
        Crop(0.0, 1.1, -0.1)
    assert len(error.value.problems) == 3
