"""Batches prepared ahead: in order, no further than asked, errors and threads accounted for."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from toys.files import picture

from rcc.data.files.images import EncodedImages
from rcc.data.loading import Prepared, prepared
from rcc.data.splits import Split, Splits
from rcc.errors import UserError
from rcc.models.transformers.clip import CLIPWrapper


def working() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rcc-prepare")]


def test_batches_are_those_prepared_one_after_another(clip_tiny: CLIPWrapper, digits: Splits) -> None:
    split = digits.test.take(50)
    batches = list(prepared(clip_tiny, split, 16, workers=3, fields=("images",)))
    assert [len(batch["pixel_values"]) for batch in batches] == [16, 16, 16, 2]
    direct = clip_tiny.prepare(images=list(split.images))["pixel_values"]
    assert torch.equal(torch.cat([batch["pixel_values"] for batch in batches]), direct)
    assert set(batches[0]) == {"pixel_values"}


@pytest.mark.parametrize(("threads", "workers"), [(1, 2), (5, 2), (8, 4), (64, 8)])
def test_more_threads_prepare_where_there_are_more_processors(
    clip_tiny: CLIPWrapper, digits: Splits, monkeypatch: pytest.MonkeyPatch, threads: int, workers: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    loading = prepared(clip_tiny, digits.test, 16, fields=("images",))
    assert (loading.workers, loading.ahead) == (workers, workers)
    one = prepared(clip_tiny, digits.test, 16, workers=1, fields=("images",))
    assert (one.workers, one.ahead) == (1, 1)


def test_texts_come_with_their_images_in_a_given_order(clip_tiny: CLIPWrapper, digits: Splits) -> None:
    split = digits.test.take(10)
    order = np.array([7, 0, 7, 3])
    (batch,) = prepared(clip_tiny, split, 8, order=order, fields=("images", "texts"))
    direct = clip_tiny.prepare(list(split.subset(order).images), split.subset(order).texts)
    assert batch.keys() == direct.keys()
    assert all(torch.equal(batch[name], direct[name]) for name in direct)


def test_nothing_is_prepared_further_ahead_than_asked(clip_tiny: CLIPWrapper, digits: Splits) -> None:
    done: list[int] = []

    class Counting(Prepared):
        def _prepare(self, indices: Any) -> Any:
            done.append(int(indices[0]))
            return {}

    batches = [np.array([number]) for number in range(10)]
    for number, _ in enumerate(Counting(clip_tiny, digits.test, batches, ("images",), ahead=2, workers=1)):
        assert max(done) <= number + 2
    assert done == list(range(10))


def test_an_unreadable_image_is_raised_when_its_batch_is_asked_for(clip_tiny: CLIPWrapper) -> None:
    stored = [picture(number) for number in range(6)]
    stored[5] = b"no image"
    split = Split("test", EncodedImages([f"{number}.png" for number in range(6)], stored.__getitem__))
    batches = iter(prepared(clip_tiny, split, 2, fields=("images",)))
    next(batches), next(batches)
    with pytest.raises(UserError, match=r"'5\.png' cannot be decoded"):
        next(batches)
    assert working() == []


def test_leaving_early_leaves_no_thread(clip_tiny: CLIPWrapper, digits: Splits) -> None:
    batches = prepared(clip_tiny, digits.test, 8, fields=("images",))
    for _ in batches:
        assert working()
        break
    assert working() == []
    assert len(batches) == 45


def test_the_time_waited_is_part_of_the_whole(clip_tiny: CLIPWrapper, digits: Splits) -> None:
    batches = prepared(clip_tiny, digits.test.take(32), 8, fields=("images",))
    assert batches.idle_share == 0
    for _ in range(2):
        assert len(list(batches)) == 4
        assert 0 < batches.waited <= batches.total
        assert 0 < batches.idle_share <= 1


def test_numbers_too_small_and_texts_that_are_not_there_are_refused(clip_tiny: CLIPWrapper, digits: Splits) -> None:
    bare = Split("test", digits.test.images)
    with pytest.raises(UserError) as refused:
        prepared(clip_tiny, bare, 0, fields=("images", "texts"), ahead=-1, workers=0)
    assert len(refused.value.problems) == 4
