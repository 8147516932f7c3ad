"""BLIP for retrieval: the same bits as transformers' BlipForImageTextRetrieval, apart and together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import BlipForImageTextRetrieval

from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.models.abilities import Captioner, Classifier, Matcher
from rcc.models.transformers.blip_retrieval import BLIPRetrievalWrapper

TEXTS = ["a photo of a cat", "the digit seven is on a dog", "red"]


@pytest.fixture
def blip(random_model: Callable[[str], BLIPRetrievalWrapper]) -> BLIPRetrievalWrapper:
    return random_model("blip_retrieval")


@pytest.fixture
def reference(checkpoint_of: Callable[[str], Path]) -> BlipForImageTextRetrieval:
    return BlipForImageTextRetrieval.from_pretrained(checkpoint_of("blip_retrieval")).eval()


@pytest.fixture
def images(digits: Splits) -> list[Image.Image]:
    return [digits.test.images[index] for index in (0, 7, 11)]


def test_similarity_and_matching_are_the_models_own_to_the_bit(
    blip: BLIPRetrievalWrapper, reference: BlipForImageTextRetrieval, images: list[Image.Image]
) -> None:
    batch = blip.prepare(images, TEXTS)
    with torch.no_grad():
        found = blip.outputs(batch)
        cosine = reference(**batch, use_itm_head=False).itm_score
        matching = reference(**batch).itm_score
        apart = {**blip.outputs(blip.prepare(images)), **blip.outputs(blip.prepare(texts=TEXTS))}
    assert torch.equal(found["image_embeds"] @ found["text_embeds"].T, cosine)
    assert torch.equal(found["match_logits"], matching)
    assert torch.equal(blip.match(images, TEXTS), matching.softmax(-1)[:, 1])
    assert torch.equal(blip.match(batch["pixel_values"], TEXTS), matching.softmax(-1)[:, 1])
    assert set(apart) == {"image_embeds", "text_embeds"}
    assert all(torch.equal(apart[name], found[name]) for name in apart)
    assert torch.equal(blip.encode_image(images), found["image_embeds"])
    assert torch.equal(blip.encode_text(TEXTS), found["text_embeds"])


def test_an_image_that_stands_in_several_pairs_is_encoded_once(
    blip: BLIPRetrievalWrapper, images: list[Image.Image]
) -> None:
    pairs = [images[index] for index in (1, 0, 1, 1)]
    texts = [TEXTS[index] for index in (0, 2, 1, 2)]
    apart = torch.cat([blip.match([image], [text]) for image, text in zip(pairs, texts, strict=True)])
    encoded: list[int] = []
    vision = blip.module.vision_model
    vision.register_forward_hook(lambda _, inputs, output: encoded.append(len(output[0])))
    torch.testing.assert_close(blip.match(pairs, texts), apart)
    assert encoded == [2]


def test_the_loss_is_contrastive_plus_matching_with_the_hardest_text_that_does_not_match(
    blip: BLIPRetrievalWrapper, images: list[Image.Image]
) -> None:
    texts = [TEXTS[0], TEXTS[1], TEXTS[0]]  # images 0 and 2 have the same text, so only text 1 is wrong for them
    batch = blip.prepare(images, texts)
    with torch.no_grad():
        found = blip.outputs(batch)
        similarity = (found["image_embeds"] @ found["text_embeds"].T / 0.07).double()
        wrong = blip.match(images, [texts[1], texts[int(similarity[1, [0, 2]].argmax()) * 2], texts[1]]).double()
        right = blip.match(images, texts).double()
        loss = blip.loss(batch).double()
    shares = torch.tensor([[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]], dtype=torch.float64)
    rows, columns = -(shares * similarity.log_softmax(1)).sum(1), -(shares * similarity.log_softmax(0)).sum(0)
    matching = -torch.cat([right.log(), (1 - wrong).log()]).mean()
    torch.testing.assert_close(loss, (rows.mean() + columns.mean()) / 2 + matching, rtol=1e-4, atol=1e-5)


def test_a_batch_in_which_all_texts_match_has_no_wrong_pair(
    blip: BLIPRetrievalWrapper, images: list[Image.Image]
) -> None:
    batch = blip.prepare(images, TEXTS) | {"labels": torch.zeros(3, dtype=torch.long)}
    with torch.no_grad():
        logits = blip.outputs(batch)["match_logits"]
        expected = F.cross_entropy(logits, torch.ones(3, dtype=torch.long))
        shared = blip.loss(batch) - expected
    assert torch.isfinite(shared)
    assert shared > 0


def test_as_many_texts_as_images_are_needed(blip: BLIPRetrievalWrapper, images: list[Image.Image]) -> None:
    with pytest.raises(UserError, match="as many texts as images; got 2 and 3"):
        blip.match(images, TEXTS[:2])
    with pytest.raises(UserError, match="as many texts as images"):
        blip.loss(blip.prepare(images, TEXTS[:2]))
    with pytest.raises(UserError, match="as many texts as images"):
        blip.loss(blip.prepare(images))
    assert set(blip.outputs(blip.prepare(images, TEXTS[:2]))) == {"image_embeds", "text_embeds"}


def test_units_have_the_exact_roles_and_towers_and_the_model_matches(blip: BLIPRetrievalWrapper) -> None:
    layers = 2
    units = blip.units()
    assert Counter((unit.tower, unit.role) for unit in units) == {
        ("vision", "attention"): 2 * layers, ("text", "attention"): 4 * layers,
        ("text", "cross_attention"): 4 * layers,
        ("vision", "mlp"): 2 * layers, ("text", "mlp"): 2 * layers,
        ("vision", "projection"): 1, ("text", "projection"): 2,
        ("vision", "embedding"): 1, ("text", "embedding"): 2,
        ("vision", "norm"): 2 * layers + 1, ("text", "norm"): 3 * layers + 1,
    }  # fmt: skip
    assert not any(unit.obstacle for unit in units)
    assert isinstance(blip, Matcher)
    assert not isinstance(blip, Captioner | Classifier)
