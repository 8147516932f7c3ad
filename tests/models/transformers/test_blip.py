"""BLIPWrapper: the same bits as transformers' BlipForConditionalGeneration, captions, units, files."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import BlipForConditionalGeneration

from rcc.artifact.load import load
from rcc.artifact.write import write_artifact
from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.models.abilities import Captioner, Classifier, Matcher
from rcc.models.transformers.blip import BLIPWrapper

TEXTS = ["a photo of a cat", "the digit seven is on a dog", "red"]
WORDS = "text_decoder.bert.embeddings.word_embeddings.weight"


@pytest.fixture
def blip_checkpoint(checkpoint_of: Callable[[str], Path]) -> Path:
    return checkpoint_of("blip")


@pytest.fixture
def blip(random_model: Callable[[str], BLIPWrapper]) -> BLIPWrapper:
    return random_model("blip")


@pytest.fixture
def images(digits: Splits) -> list[Image.Image]:
    return [digits.test.images[index] for index in (0, 7, 11)]


@pytest.fixture
def reference(blip_checkpoint: Path) -> BlipForConditionalGeneration:
    return BlipForConditionalGeneration.from_pretrained(blip_checkpoint).eval()


def altered(checkpoint: Path, tmp_path: Path, change: object) -> Path:
    """A copy of the checkpoint whose tensors went through `change`."""
    copy = Path(shutil.copytree(checkpoint, tmp_path / "altered"))
    weights = load_file(copy / "model.safetensors")
    change(weights)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def test_loss_and_logits_are_the_models_own_to_the_bit(
    blip: BLIPWrapper, reference: BlipForConditionalGeneration, images: list[Image.Image]
) -> None:
    batch = blip.prepare(images, TEXTS)
    labels = torch.where(batch["attention_mask"] == 1, batch["input_ids"], -100)
    with torch.no_grad():
        expected = reference(**batch, labels=labels)
        found = blip.outputs(batch)
        assert torch.equal(blip.loss(batch), expected.loss)
    counts = batch["attention_mask"].sum(1).tolist()
    assert counts == [7, 9, 3]
    for item, count in enumerate(counts):
        assert torch.equal(found["logits"][item, : count - 1], expected.logits[item, : count - 1])
        assert not found["logits"][item, count - 1 :].any()
    assert torch.equal(found["image_embeds"], torch.nn.functional.normalize(expected.last_hidden_state[:, 0], dim=-1))
    assert torch.equal(blip.encode_image(images), expected.last_hidden_state)


def test_the_loss_is_the_mean_over_real_tokens_by_its_formula(blip: BLIPWrapper, images: list[Image.Image]) -> None:
    batch = blip.prepare(images, TEXTS)
    with torch.no_grad():
        likelihoods = blip.outputs(batch)["logits"].double().log_softmax(-1)
        loss = blip.loss(batch)
    terms = [
        -likelihoods[item, place - 1, batch["input_ids"][item, place]]
        for item in range(3)
        for place in range(1, int(batch["attention_mask"][item].sum()))
    ]
    assert len(terms) == 6 + 8 + 2
    torch.testing.assert_close(loss.double(), torch.stack(terms).mean(), rtol=1e-5, atol=1e-6)


def test_texts_as_long_as_the_image_has_patches_are_told_apart_by_one_more_place(
    blip: BLIPWrapper, images: list[Image.Image]
) -> None:
    texts = [" ".join(["seven"] * count) for count in (15, 4, 14)]
    assert blip.prepare(texts=texts)["input_ids"].shape == (3, 17)
    assert blip.encode_image(images).shape[:2] == (3, 17)
    batch = blip.prepare(images, texts)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, 18)
    assert batch["attention_mask"].sum(1).tolist() == [17, 6, 16]
    assert batch["input_ids"][:, 17].tolist() == [blip.tokenizer.pad_token_id] * 3
    shorter = batch | {key: batch[key][:, :17] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        torch.testing.assert_close(blip.loss(batch), blip.loss(shorter))


def test_a_text_starts_with_the_decoders_token_and_class_labels_do_not_matter(
    blip: BLIPWrapper, images: list[Image.Image]
) -> None:
    batch = blip.prepare(images, TEXTS)
    start = blip.module.config.text_config.bos_token_id
    assert start >= len(blip.tokenizer)
    assert batch["input_ids"][:, 0].tolist() == [start] * 3
    assert torch.equal(blip.loss(batch | {"labels": torch.tensor([1, 1, 2])}), blip.loss(batch))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"num_beams": 3, "max_length": 20, "min_length": 5}),
        ({"settings": "specification"}, {"num_beams": 5, "max_length": 50, "min_length": 0}),
        ({"num_beams": 1, "max_length": 9}, {"num_beams": 1, "max_length": 9, "min_length": 5}),
        ({"max_length": 4}, {"num_beams": 3, "max_length": 4, "min_length": 4}),
    ],
)
def test_captions_are_those_of_transformers_with_the_settings_asked_for(
    blip: BLIPWrapper, reference: BlipForConditionalGeneration, images: list[Image.Image], settings, expected
) -> None:
    pixels = blip.prepare(images)["pixel_values"]
    tokens = reference.generate(pixels, **expected)
    wanted = [text.strip() for text in blip.tokenizer.batch_decode(tokens[:, 1:], skip_special_tokens=True)]
    found = blip.generate_caption(images, **settings)
    assert found == wanted
    assert len(found) == 3
    assert any(found)
    assert blip.generate_caption(pixels, **settings) == wanted


def test_a_prompt_begins_the_caption_and_is_left_out_of_it(
    blip: BLIPWrapper, reference: BlipForConditionalGeneration, images: list[Image.Image]
) -> None:
    tokens = blip.tokenizer(["a photo of"] * 3, return_tensors="pt", return_token_type_ids=False)
    out = reference.generate(blip.prepare(images)["pixel_values"], **tokens, num_beams=3, max_length=20, min_length=5)
    assert blip.tokenizer.batch_decode(out[:, 1:4]) == ["a photo of"] * 3
    wanted = [text.strip() for text in blip.tokenizer.batch_decode(out[:, 4:], skip_special_tokens=True)]
    assert blip.generate_caption(images, prompt="a photo of") == wanted


def test_settings_that_cannot_be_are_refused(blip: BLIPWrapper, images: list[Image.Image]) -> None:
    with pytest.raises(UserError, match=r"unknown settings 'publishd'\. Did you mean 'published'"):
        blip.generate_caption(images, settings="publishd")
    with pytest.raises(UserError) as error:
        blip.generate_caption(images, prompt="a photo of", max_length=4, num_beams=0, min_length=9)
    assert [problem.partition(";")[0] for problem in error.value.problems] == [
        "captions: num_beams is 0",
        "captions: max_length is 4",
        "captions: min_length is 9",
    ]
    with pytest.raises(UserError, match=r"max_length is 65; it must be over 1 .* at most 64"):
        blip.generate_caption(images, max_length=65)


def test_forward_gives_what_the_specification_names(blip: BLIPWrapper, images: list[Image.Image]) -> None:
    output = blip.forward(images, TEXTS, return_loss=True)
    assert set(output) == {"image_embeds", "captions", "loss"}
    assert output["image_embeds"].shape == (3, 17, 32)
    assert output["captions"] == TEXTS
    assert torch.equal(output["loss"], blip.loss(blip.prepare(images, TEXTS)))
    output = blip.forward(images)
    assert set(output) == {"image_embeds", "captions"}
    assert output["captions"] == blip.generate_caption(images)
    with pytest.raises(UserError, match="a caption for each image"):
        blip.forward(images, return_loss=True)


def test_the_parts_have_the_specifications_names_and_the_model_writes_captions(blip: BLIPWrapper) -> None:
    assert blip.blip_model is blip.module
    assert blip.vision_encoder is blip.module.vision_model
    assert blip.text_decoder is blip.module.text_decoder
    assert blip.processor.tokenizer is blip.tokenizer
    assert isinstance(blip, Captioner)
    assert not isinstance(blip, Matcher | Classifier)


def test_units_have_the_exact_roles_and_towers(blip: BLIPWrapper) -> None:
    layers = 2
    units = blip.units()
    assert Counter((unit.tower, unit.role) for unit in units) == {
        ("vision", "attention"): 2 * layers, ("text", "attention"): 4 * layers,
        ("text", "cross_attention"): 4 * layers,
        ("vision", "mlp"): 2 * layers, ("text", "mlp"): 2 * layers,
        ("text", "projection"): 1,
        ("vision", "embedding"): 1, ("text", "embedding"): 2,
        ("vision", "norm"): 2 * layers + 1, ("text", "norm"): 3 * layers + 2,
    }  # fmt: skip
    assert not any(unit.obstacle or unit.tied for unit in units)


def test_an_artifact_without_compression_gives_the_same_bits_and_captions(
    blip: BLIPWrapper, images: list[Image.Image], tmp_path: Path
) -> None:
    blip.generation_config.num_beams = 2
    write_artifact(blip, tmp_path / "artifact", dtype="float32")
    loaded = load(tmp_path / "artifact")
    assert isinstance(loaded, BLIPWrapper)
    batch = blip.prepare(images, TEXTS)
    with torch.no_grad():
        found, expected = loaded.outputs(loaded.prepare(images, TEXTS)), blip.outputs(batch)
        assert torch.equal(loaded.loss(batch), blip.loss(batch))
    assert all(torch.equal(found[name], expected[name]) for name in ("image_embeds", "logits"))
    assert loaded.generation_config.num_beams == 2
    assert loaded.generate_caption(images) == blip.generate_caption(images)
    decoder = loaded.module.text_decoder
    assert decoder.cls.predictions.decoder.bias is decoder.cls.predictions.bias


def test_the_word_embeddings_change_with_the_last_layer_and_take_any_form(
    blip: BLIPWrapper, reference: BlipForConditionalGeneration, images: list[Image.Image], tmp_path: Path
) -> None:
    (unit,) = [unit for unit in blip.units() if unit.name == WORDS.removesuffix(".weight")]
    left, _, right = torch.linalg.svd(unit.read().dense(), full_matrices=False)
    form = Form(left=left[:, :9] * 3, right=right[:9])
    unit.write(form)
    blip = deepcopy(blip)
    with torch.no_grad():
        reference.text_decoder.bert.embeddings.word_embeddings.weight.copy_(form.dense())
    batch = blip.prepare(images, TEXTS)
    labels = torch.where(batch["attention_mask"] == 1, batch["input_ids"], -100)
    torch.testing.assert_close(blip.loss(batch), reference(**batch, labels=labels).loss)
    write_artifact(blip, tmp_path / "artifact", dtype="float32")
    loaded = load(tmp_path / "artifact")
    with torch.no_grad():
        assert torch.equal(loaded.loss(batch), blip.loss(batch))
    assert loaded.generate_caption(images) == blip.generate_caption(images)


def test_four_bits_for_the_word_embeddings_are_stored_once(blip: BLIPWrapper, tmp_path: Path) -> None:
    unit = next(unit for unit in blip.units() if unit.name == WORDS.removesuffix(".weight"))
    before = write_artifact(blip, tmp_path / "before", dtype="float16").weights_bytes
    steps = unit.read().dense().abs().amax(1) / 7
    values = (unit.read().dense() / steps[:, None]).round().clamp(-7, 7) * steps[:, None]
    unit.write(Form(sparse=values, sparse_step=steps))
    saved = before - write_artifact(blip, tmp_path / "after", dtype="float16").weights_bytes
    assert saved > unit.numel  # of two bytes a value, more than one is saved


def test_shared_weights_that_are_missing_are_named_and_not_made_up(blip_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"lacks the weights .*{WORDS}"):
        BLIPWrapper.load(altered(blip_checkpoint, tmp_path, lambda weights: weights.pop(WORDS)), device="cpu")


def test_an_unexpected_weight_is_named_and_old_buffers_and_copies_of_shared_weights_are_accepted(
    blip_checkpoint: Path, blip: BLIPWrapper, tmp_path: Path
) -> None:
    def as_published(weights: dict[str, torch.Tensor]) -> None:
        weights["text_decoder.bert.embeddings.position_ids"] = torch.arange(64)[None]
        weights["text_decoder.cls.predictions.decoder.weight"] = weights[WORDS].clone()
        weights["text_decoder.cls.predictions.decoder.bias"] = weights["text_decoder.cls.predictions.bias"].clone()

    copy = altered(blip_checkpoint, tmp_path, as_published)
    loaded = BLIPWrapper.load(copy, device="cpu").module.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in blip.module.state_dict().items())
    weights = load_file(copy / "model.safetensors") | {"itm_head.weight": torch.ones(2, 32)}
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"does not have: itm_head\.weight"):
        BLIPWrapper.load(copy, device="cpu")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("preprocessor_config.json", {"size": {"height": 24, "width": 24}}, "pixels of 3 × 24 × 24 .* takes 3 × 32"),
        ("config.json", {"text_config": {"vocab_size": 9}}, "tokens and the model embeds 9"),
        ("config.json", {"text_config": {"sep_token_id": 7}}, "ends a text with token 3 and the model looks for 7"),
    ],
)
def test_a_processor_that_does_not_fit_the_model_is_refused(
    blip_checkpoint: Path, tmp_path: Path, file: str, change: dict, message: str
) -> None:
    copy = Path(shutil.copytree(blip_checkpoint, tmp_path / "copy"))
    content = json.loads((copy / file).read_text())
    for key, value in change.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    (copy / file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        BLIPWrapper.load(copy, device="cpu")


def test_length_and_beams_may_be_given_in_the_specification_s_order(
    blip: BLIPWrapper, images: list[Image.Image]
) -> None:
    assert blip.generate_caption(images, 12, 2) == blip.generate_caption(images, max_length=12, num_beams=2)
