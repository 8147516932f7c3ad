"""Batches of a training split: what they hold, their order, what is changed at random, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.models.transformers.clip import CLIPWrapper
from rcc.training.batches import TrainingSplit


def few(digits: Splits, count: int) -> Splits:
    return Splits(
        digits.train.take(count), digits.calibration.take(20), digits.selection.take(20), digits.test.take(20),
        digits.class_names, digits.templates,
    )  # fmt: skip


def test_an_epoch_goes_through_the_split_once_in_an_order_of_its_own(clip: CLIPWrapper, digits: Splits) -> None:
    splits = few(digits, 70)
    epochs = TrainingSplit(clip, splits)(16, "none", 3)
    assert epochs.steps == 4
    batches = list(epochs(1))
    assert [len(batch["pixel_values"]) for batch in batches] == [16] * 4
    order = torch.randperm(70, generator=torch.Generator().manual_seed(4))
    wanted = clip.prepare(images=[splits.train.images[int(index)] for index in order[:16]])["pixel_values"]
    assert torch.equal(batches[0]["pixel_values"], wanted)
    assert splits.train.labels is not None
    assert batches[0]["labels"].tolist() == splits.train.labels[order[:16].numpy()].tolist()
    again, other = next(iter(epochs(1))), next(iter(epochs(2)))
    assert all(torch.equal(again[name], batches[0][name]) for name in again)
    assert not torch.equal(other["pixel_values"], batches[0]["pixel_values"])


def test_images_are_paired_with_prompts_of_their_class(clip: CLIPWrapper, digits: Splits) -> None:
    batch = next(iter(TrainingSplit(clip, few(digits, 40))(8, "none", 0)(1)))
    assert set(batch) == {"pixel_values", "input_ids", "attention_mask", "labels"}
    for label, ids in zip(batch["labels"].tolist(), batch["input_ids"], strict=True):
        text = clip.tokenizer.decode(ids, skip_special_tokens=True)
        assert digits.class_names[label] in text


@pytest.mark.parametrize("augmentation", ["affine", "crop"])
def test_augmentation_changes_images_and_nothing_else(clip: CLIPWrapper, digits: Splits, augmentation: str) -> None:
    plain = next(iter(TrainingSplit(clip, few(digits, 40))(8, "none", 0)(1)))
    changed = next(iter(TrainingSplit(clip, few(digits, 40))(8, augmentation, 0)(1)))
    assert changed["pixel_values"].shape == plain["pixel_values"].shape
    assert not torch.equal(changed["pixel_values"], plain["pixel_values"])
    assert torch.equal(changed["labels"], plain["labels"])


def test_without_a_size_a_batch_is_64_items_or_all_there_are(clip: CLIPWrapper, digits: Splits) -> None:
    assert TrainingSplit(clip, few(digits, 200))(None, "none", 0).batch_size == 64
    assert TrainingSplit(clip, few(digits, 30))(None, "none", 0).batch_size == 30


def test_items_that_would_take_too_much_memory_are_prepared_anew(
    clip: CLIPWrapper, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = next(iter(TrainingSplit(clip, few(digits, 40))(8, "none", 0)(1)))
    monkeypatch.setattr("rcc.training.batches.CACHED", 1000)
    epochs = TrainingSplit(clip, few(digits, 40))(8, "none", 0)
    assert torch.equal(next(iter(epochs(1)))["pixel_values"], kept["pixel_values"])
    assert epochs._kept == {}


def test_what_cannot_be_trained_on_is_refused(clip: CLIPWrapper, digits: Splits) -> None:
    training = TrainingSplit(clip, few(digits, 40))
    with pytest.raises(UserError, match="batch_size is 41 and the training split has 40 images"):
        training(41, "none", 0)
    with pytest.raises(UserError, match="batch_size is 1: images and texts are compared within a batch"):
        training(1, "none", 0)
    with pytest.raises(UserError, match="augmentation 'turn'"):
        training(8, "turn", 0)
    empty = Splits(
        digits.train.subset(np.arange(0)), digits.calibration, digits.selection, digits.test,
        digits.class_names, digits.templates,
    )  # fmt: skip
    with pytest.raises(UserError, match="no training split"):
        TrainingSplit(clip, empty)(None, "none", 0)
