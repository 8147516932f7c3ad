"""Pairs: every caption has its turn, equal captions match, prompts name the class; no texts is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rcc.data.files.images import ArrayImages
from rcc.data.splits import Split, Splits
from rcc.errors import UserError
from rcc.models.transformers.clip import CLIPWrapper
from rcc.training.pairs import Captions, Prompts, pairs_of

WRITTEN = (("one", "two", "three"), ("four",), ("two", "five"))


def images(count: int) -> ArrayImages:
    return ArrayImages(np.zeros((count, 4, 4, 3), np.uint8))


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def text_of(clip: CLIPWrapper, batch: dict[str, torch.Tensor]) -> list[str]:
    texts = [clip.tokenizer.decode(ids, skip_special_tokens=True) for ids in batch["input_ids"].tolist()]
    return [text.replace("</w>", " ").strip() for text in texts]


def test_each_of_an_images_captions_has_its_turn_about_as_often(clip: CLIPWrapper) -> None:
    pairs = Captions(clip, Split("train", images(3), WRITTEN))
    batch = pairs(torch.zeros(600, dtype=torch.long), drawn())
    texts = text_of(clip, batch)
    assert set(texts) == set(WRITTEN[0])
    assert all(150 < texts.count(text) < 250 for text in WRITTEN[0])


def test_captions_match_exactly_where_they_are_equal(clip: CLIPWrapper) -> None:
    pairs = Captions(clip, Split("train", images(3), WRITTEN))
    batch = pairs(torch.arange(3).repeat(40), drawn())
    texts = np.array(text_of(clip, batch))
    labels = batch["labels"].numpy()
    assert ((labels[:, None] == labels[None, :]) == (texts[:, None] == texts[None, :])).all()
    assert len(set(texts)) == 5
    assert {str(text) for text in texts[1::3]} == {"four"}


def test_the_generator_decides_the_captions(clip: CLIPWrapper) -> None:
    pairs = Captions(clip, Split("train", images(3), WRITTEN))
    chosen = torch.zeros(50, dtype=torch.long)
    one, same, other = (text_of(clip, pairs(chosen, drawn(seed))) for seed in (1, 1, 2))
    assert one == same != other


def test_prompts_are_templates_with_the_name_of_the_class(clip: CLIPWrapper, digits: Splits) -> None:
    pairs = pairs_of(clip, digits.train, digits)
    assert isinstance(pairs, Prompts)
    chosen = torch.arange(200)
    batch = pairs(chosen, drawn())
    labels = digits.train.labels[:200]
    assert batch["labels"].tolist() == labels.tolist()
    found = set()
    for text, label in zip(text_of(clip, batch), labels, strict=True):
        name = digits.class_names[label]
        assert text.endswith(name)
        found.add(text.removesuffix(name) + "{}")
    assert found == set(digits.templates)


def test_captions_go_before_classes(clip: CLIPWrapper, digits: Splits) -> None:
    split = Split("train", images(3), WRITTEN, np.array([0, 1, 2]))
    assert isinstance(pairs_of(clip, split, digits), Captions)


def test_images_without_any_text_are_refused(clip: CLIPWrapper, digits: Splits) -> None:
    with pytest.raises(UserError, match="split 'train' has neither captions nor labels"):
        pairs_of(clip, Split("train", images(2)), digits)
