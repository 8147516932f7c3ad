"""CLIPScore and RefCLIPScore on known angles, and a judge against a direct computation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CLIPModel

from rcc.data.splits import Split, Splits
from rcc.errors import UserError
from rcc.evaluation.captioning.clip_score import Judge, clip_score, ref_clip_score
from rcc.models.transformers.clip import CLIPWrapper
from rcc.models.transformers.clip_tiny import embedded


def at(*degrees: float) -> Tensor:
    """Vectors of the plane at these angles, of different lengths."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    lengths = torch.arange(1, len(degrees) + 1, dtype=torch.float64)
    return lengths[:, None] * torch.stack([angles.cos(), angles.sin()], dim=1)


def test_clip_score_is_two_and_a_half_cosines_and_never_negative() -> None:
    found = clip_score(at(0, 0, 0, 0), at(0, 60, 90, 120))
    torch.testing.assert_close(found, torch.tensor([2.5, 1.25, 0.0, 0.0], dtype=torch.float64))


def test_ref_clip_score_is_the_harmonic_mean_with_the_best_reference() -> None:
    # Caption at 60° of the image, its references at 30° and 90° from the caption, then one at 180°.
    found = ref_clip_score(at(0, 0), at(60, 60), [at(30, 150), at(240)])
    image, reference = 1.25, math.cos(math.pi / 6)
    torch.testing.assert_close(found, torch.tensor([2 / (1 / image + 1 / reference), 0.0], dtype=torch.float64))


def test_a_caption_unlike_image_and_references_has_zero_and_not_nan() -> None:
    assert ref_clip_score(at(0), at(180), [at(0)]).tolist() == [0.0]


@pytest.fixture
def pictured(digits: Splits) -> Split:
    """Five digits of different classes, with one to three captions."""
    first = [int(np.flatnonzero(digits.test.labels == label)[0]) for label in range(5)]
    captions = (("zero", "a zero"), ("one",), ("two", "the digit two", "a two"), ("three",), ("four", "a four"))
    return Split("test", digits.test.images.subset(np.array(first)), captions)


@pytest.fixture
def trained() -> Judge:
    return Judge(str(embedded()), batch_size=2)


def test_a_judge_agrees_with_a_direct_computation(trained: Judge, clip_tiny: CLIPWrapper, pictured: Split) -> None:
    predictions = ["the digit zero", "one", "three", "nine", ""]
    found = trained.scores(pictured, predictions)
    model = CLIPModel.from_pretrained(embedded())

    def unit(embeddings: Tensor) -> Tensor:
        return embeddings.double() / embeddings.double().norm(dim=1, keepdim=True)

    with torch.no_grad():
        pixels = clip_tiny.image_processor(images=list(pictured.images), return_tensors="pt")["pixel_values"]
        image = unit(model.get_image_features(pixels).pooler_output)

        def of_texts(texts: Sequence[str]) -> Tensor:
            prefixed = [f"A photo depicts {text}" for text in texts]
            tokens = clip_tiny.tokenizer(prefixed, padding=True, return_tensors="pt")
            return unit(model.get_text_features(**tokens).pooler_output)

        caption, references = of_texts(predictions), [of_texts(written) for written in pictured.captions]
    alone = [2.5 * max(float(image[index] @ caption[index]), 0) for index in range(5)]
    reference = [max(float((references[index] @ caption[index]).max()), 0) for index in range(5)]
    both = [2 * a * r / (a + r) if a + r else 0.0 for a, r in zip(alone, reference, strict=True)]
    assert sum(value > 0 for value in both) >= 2
    assert [score.name for score in found] == ["clip_score", "ref_clip_score"]
    assert found[0].per_image == pytest.approx(alone, abs=1e-5)
    assert found[1].per_image == pytest.approx(both, abs=1e-5)


def test_a_judge_prefers_what_the_images_show(trained: Judge, pictured: Split) -> None:
    right = trained.scores(pictured, ["zero", "one", "two", "three", "four"])
    wrong = trained.scores(pictured, ["one", "two", "three", "four", "zero"])
    assert all(better.value > worse.value for better, worse in zip(right, wrong, strict=True))


def test_a_judge_encodes_images_and_references_once(
    trained: Judge, pictured: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    prepare = trained.model.prepare

    def counted(images: list | None = None, texts: list | None = None) -> dict[str, Tensor]:
        encoded.extend(["images"] * len(images or ()) + ["texts"] * len(texts or ()))
        return prepare(images, texts)

    monkeypatch.setattr(trained.model, "prepare", counted)
    trained.scores(pictured, ["five", "six", "seven", "eight", "nine"])
    assert (encoded.count("images"), encoded.count("texts")) == (5, 9 + 5)
    trained.scores(pictured, ["nine", "eight", "seven", "six", "five"])
    assert (encoded.count("images"), encoded.count("texts")) == (5, 9 + 10)


def test_a_judge_that_is_not_there_or_reads_no_texts_is_refused(
    tmp_path: Path, checkpoint_of: Callable[[str], Path], pictured: Split
) -> None:
    with pytest.raises(UserError, match="nowhere"):
        Judge(str(tmp_path / "nowhere"), batch_size=4)
    blind_to_texts = Judge(str(checkpoint_of("clip_vision")), batch_size=4)
    with pytest.raises(UserError, match="text"):
        blind_to_texts.scores(pictured, ["one"] * 5)
