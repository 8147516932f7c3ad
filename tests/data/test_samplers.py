"""Orders of an epoch: balanced, grouped by length; the same seed and epoch, the same order."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcc.data.loading import prepared
from rcc.data.samplers import balanced_sampler, length_grouped_sampler
from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.models.transformers.clip import CLIPWrapper


def test_a_rare_class_is_drawn_as_often_as_a_common_one() -> None:
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    drawn = Counter(labels[list(balanced_sampler(labels, seed=0, epoch=0, count=30_000))].tolist())
    # Binomial with p = 1/3: a standard deviation of 82.
    assert all(abs(drawn[label] - 10_000) < 5 * 82 for label in (0, 1, 2))
    assert len(list(balanced_sampler(labels, seed=0, epoch=0))) == 1000


@pytest.mark.parametrize(
    "order",
    [
        lambda seed, epoch: list(balanced_sampler(np.arange(50) % 3, seed, epoch)),
        lambda seed, epoch: list(length_grouped_sampler(list(range(50)), 4, seed, epoch)),
    ],
)
def test_an_order_follows_from_seed_and_epoch(order) -> None:
    assert order(3, 1) == order(3, 1)
    assert order(3, 1) != order(3, 2)
    assert order(3, 1) != order(4, 1)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=80), st.integers(1, 9), st.integers(0, 5))
def test_grouping_takes_every_item_once_and_the_longest_first(lengths: list[int], batch_size: int, epoch: int) -> None:
    order = list(length_grouped_sampler(lengths, batch_size, 0, epoch))
    assert sorted(order) == list(range(len(lengths)))
    assert lengths[order[0]] == max(lengths)


def test_grouping_by_length_leaves_less_padding_than_chance() -> None:
    lengths = np.random.default_rng(0).integers(3, 77, 800).tolist()

    def padding(order: list[int]) -> int:
        batches = [[lengths[index] for index in order[start : start + 16]] for start in range(0, 800, 16)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(list(length_grouped_sampler(lengths, 16, 0, 0))) < padding(list(range(800))) / 4


def test_a_sampler_orders_prepared_batches(clip_tiny: CLIPWrapper, digits: Splits) -> None:
    split = digits.test.take(12)
    sampler = list(balanced_sampler(np.arange(12) % 3, seed=0, epoch=0, count=6))
    (batch,) = prepared(clip_tiny, split, 6, order=sampler, fields=("images",))
    direct = clip_tiny.prepare(images=[split.images[index] for index in sampler])
    assert (batch["pixel_values"] == direct["pixel_values"]).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: balanced_sampler(np.array([], np.int64), 0, 0), "there are no labels"),
        (lambda: balanced_sampler(np.array([0]), 0, 0, 0), "count is 0"),
        (lambda: length_grouped_sampler([], 1, 0, 0), "there are no lengths"),
        (lambda: length_grouped_sampler([1], 0, 0, 0), "batch_size is 0"),
    ],
)
def test_what_cannot_be_sampled_is_refused(build, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()
