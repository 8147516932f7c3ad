"""SigLIP: the same bits as transformers' SiglipModel, texts prepared as it was trained."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import SiglipModel

from rcc.data.splits import Splits
from rcc.models.transformers.siglip import SiglipWrapper

TEXTS = ["a photo of the digit seven", "a dog on the cat", "zero"]


@pytest.fixture
def siglip(random_model: Callable[[str], SiglipWrapper]) -> SiglipWrapper:
    return random_model("siglip")


@pytest.fixture
def images(digits: Splits) -> list[Image.Image]:
    return [digits.test.images[index] for index in (0, 7, 11)]


def test_embeddings_similarity_and_loss_are_the_models_own_to_the_bit(
    siglip: SiglipWrapper, checkpoint_of: Callable[[str], Path], images: list[Image.Image]
) -> None:
    reference = SiglipModel.from_pretrained(checkpoint_of("siglip")).eval()
    batch = siglip.prepare(images, TEXTS)
    with torch.no_grad():
        expected = reference(**batch, return_loss=True)
        found = siglip.outputs(batch)
        similarity = siglip.compute_similarity(found["image_embeds"], found["text_embeds"])
        assert torch.equal(found["image_embeds"], expected.image_embeds)
        assert torch.equal(found["text_embeds"], expected.text_embeds)
        torch.testing.assert_close(similarity, expected.logits_per_image)
        torch.testing.assert_close(siglip.loss(batch), expected.loss)
        torch.testing.assert_close(siglip.forward(images, TEXTS, return_loss=True)["loss"], expected.loss)


def test_pairs_of_one_label_are_positives_in_the_sigmoid_loss(siglip: SiglipWrapper, images: list[Image.Image]) -> None:
    batch = siglip.prepare(images, TEXTS)
    with torch.no_grad():
        similarity = siglip.compute_similarity(*siglip.outputs(batch).values()).double()
        found = siglip.loss(batch | {"labels": torch.tensor([4, 4, 2])}).double()
    signs = torch.tensor([[1, 1, -1], [1, 1, -1], [-1, -1, 1]])
    torch.testing.assert_close(found, (1 + torch.exp(-signs * similarity)).log().sum() / 3, rtol=1e-5, atol=1e-6)


def test_texts_are_padded_to_the_whole_context_and_nothing_is_masked(siglip: SiglipWrapper) -> None:
    batch = siglip.prepare(texts=TEXTS)
    assert set(batch) == {"input_ids"}
    assert batch["input_ids"].shape == (3, 16)
    assert batch["input_ids"][2].tolist() == [siglip.tokenizer.convert_tokens_to_ids("zero"), *[1] * 15]
    assert siglip.prepare(texts=["seven " * 40])["input_ids"][0, -1] == 1


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("SiglipTokenizer", ["A  Photo, of the \\digit: seven!", "[A] dog^ on 'the' cat."]),
        ("GemmaTokenizerFast", ["A Photo of the DIGIT seven", "a dog on THE cat"]),
        ("Siglip2Tokenizer", ["A Photo of the DIGIT seven", "a dog on THE cat"]),
    ],
)
def test_a_published_tokenizer_prepares_texts_itself_and_is_saved_so(
    checkpoint_of: Callable[[str], Path], siglip: SiglipWrapper, tmp_path: Path, kind: str, written: list[str]
) -> None:
    copy = Path(shutil.copytree(checkpoint_of("siglip"), tmp_path / "copy"))
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": kind}))
    published = SiglipWrapper.load(copy, device="cpu")
    expected = siglip.prepare(texts=TEXTS[:2])["input_ids"]
    assert torch.equal(published.prepare(texts=written)["input_ids"], expected)
    assert not torch.equal(siglip.prepare(texts=written)["input_ids"], expected)
    if kind != "SiglipTokenizer":
        assert (
            published.prepare(texts=["a dog."])["input_ids"].tolist()
            != published.prepare(texts=["a dog"])["input_ids"].tolist()
        )
    published.save_files(tmp_path / "saved")
    again = SiglipWrapper.skeleton(tmp_path / "saved").tokenizer
    assert torch.equal(again(written, padding="max_length", max_length=16, return_tensors="pt").input_ids, expected)


def test_units_have_the_exact_roles_and_towers(siglip: SiglipWrapper) -> None:
    layers = 2
    units = siglip.units()
    assert Counter((unit.tower, unit.role) for unit in units) == {
        ("vision", "attention"): 4 * layers + 1, ("text", "attention"): 4 * layers,
        ("vision", "mlp"): 2 * layers + 2, ("text", "mlp"): 2 * layers,
        ("text", "projection"): 1,
        ("vision", "embedding"): 2, ("text", "embedding"): 2,
        ("vision", "norm"): 2 * layers + 2, ("text", "norm"): 2 * layers + 1,
    }  # fmt: skip
    assert [unit.name for unit in units if unit.obstacle] == ["vision_model.head.attention.out_proj"]
