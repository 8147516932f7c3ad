"""CLIPScore and RefCLIPScore on known angles, and a judge against a direct computation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CLIPModel

from rcc.data.images import ArrayImages
from rcc.data.splits import Split
from rcc.errors import UserError
from rcc.evaluation.clip_score import Judge, clip_score, ref_clip_score
from rcc.models.clip import CLIPWrapper


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
def pictured() -> Split:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    captions = (("one", "one two"), ("three",), ("four", "five", "six"), ("seven",), ("eight nine", "zero"))
    return Split("test", ArrayImages(pixels), captions)


def test_a_judge_agrees_with_a_direct_computation(clip: CLIPWrapper, clip_checkpoint: Path, pictured: Split) -> None:
    predictions = ["one", "two", "three", "four", ""]
    found = Judge(str(clip_checkpoint), batch_size=2).scores(pictured, predictions)
    model = CLIPModel.from_pretrained(clip_checkpoint)

    def unit(embeddings: Tensor) -> Tensor:
        return embeddings.double() / embeddings.double().norm(dim=1, keepdim=True)

    with torch.no_grad():
        pixels = clip.image_processor(images=pictured.pictures(), return_tensors="pt")["pixel_values"]
        image = unit(model.get_image_features(pixels).pooler_output)

        def of_texts(texts: list[str]) -> Tensor:
            tokens = clip.tokenizer([f"A photo depicts {text}" for text in texts], padding=True, return_tensors="pt")
            return unit(model.get_text_features(**tokens).pooler_output)

        caption, references = of_texts(predictions), [of_texts(list(written)) for written in pictured.captions]
    for index in range(len(pictured)):
        alone = 2.5 * max(float(image[index] @ caption[index]), 0)
        reference = max(float((references[index] @ caption[index]).max()), 0)
        both = 2 * alone * reference / (alone + reference) if alone + reference else 0.0
        assert found[0].per_image is not None
        assert found[1].per_image is not None
        assert (found[0].per_image[index], found[1].per_image[index]) == pytest.approx((alone, both), abs=1e-5)
    assert [score.name for score in found] == ["clip_score", "ref_clip_score"]


def test_a_judge_encodes_images_and_references_once(
    clip_checkpoint: Path, pictured: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Judge(str(clip_checkpoint), batch_size=4)
    encoded: list[str] = []
    prepare = judge.model.prepare

    def counted(**inputs: list) -> dict[str, Tensor]:
        encoded.extend(name for name, given in inputs.items() for _ in given)
        return prepare(**inputs)

    monkeypatch.setattr(judge.model, "prepare", counted)
    first = judge.scores(pictured, ["one"] * 5)
    assert (encoded.count("images"), encoded.count("texts")) == (5, 9 + 5)
    assert judge.scores(pictured, ["one"] * 5) == first
    assert (encoded.count("images"), encoded.count("texts")) == (5, 9 + 10)


def test_a_judge_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        Judge(str(tmp_path / "nowhere"), batch_size=4)
