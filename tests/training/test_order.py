"""The order of an epoch: each image once, or rare classes as often as common ones, or texts of like length together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rcc.data.files.images import ArrayImages
from rcc.data.splits import Split
from rcc.errors import UserError
from rcc.training.order import SAMPLERS, order_of


def split(count: int = 60, labels: bool = True, captions: bool = True) -> Split:
    images = ArrayImages(np.zeros((count, 2, 2, 3), np.uint8))
    written = tuple((("word " * (1 + 7 * index % 13)).strip(),) for index in range(count))
    rare = np.where(np.arange(count) % 10 == 0, 1, 0)
    return Split("train", images, written if captions else (), rare if labels else None)


def taken(sampler: str, epoch: int = 1, seed: int = 0, batch_size: int = 6, count: int = 60) -> list[int]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return order_of(sampler, split(count), batch_size, seed)(epoch, generator).tolist()


@pytest.mark.parametrize("sampler", ["shuffled", "length_grouped"])
def test_each_image_comes_once(sampler: str) -> None:
    assert sorted(taken(sampler)) == list(range(60))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_order_follows_from_seed_and_epoch(sampler: str) -> None:
    assert taken(sampler) == taken(sampler)
    assert taken(sampler) != taken(sampler, epoch=2)
    assert taken(sampler) != taken(sampler, seed=1)


def test_a_rare_class_comes_as_often_as_a_common_one() -> None:
    drawn = np.array(taken("balanced", count=4000))
    share = float((drawn % 10 == 0).mean())
    # Binomial with p = 1/2: four standard deviations.
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / len(drawn))


def test_batches_hold_captions_of_like_length() -> None:
    lengths = np.array([len(written[0]) for written in split(600).captions])

    def spread(sampler: str) -> float:
        batches = np.array(taken(sampler, count=600)).reshape(-1, 6)
        return float(np.ptp(lengths[batches], axis=1).mean())

    assert spread("length_grouped") < 0.2 * spread("shuffled")


def test_what_a_sampler_needs_and_the_split_lacks_is_said() -> None:
    with pytest.raises(UserError, match="sampler=balanced needs classes"):
        order_of("balanced", split(labels=False), 6, 0)
    with pytest.raises(UserError, match="sampler=length_grouped goes by captions"):
        order_of("length_grouped", split(captions=False), 6, 0)
    with pytest.raises(UserError, match=r"unknown sampler 'balance'\. Did you mean 'balanced'"):
        order_of("balance", split(), 6, 0)
