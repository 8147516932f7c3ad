"""BLIPWrapper: the same bits as transformers' BlipForConditionalGeneration, captions, units, files."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import BlipForConditionalGeneration

import rcc
from rcc.artifact.load import load
from rcc.artifact.write import write_artifact
from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.models.abilities import Captioner, Classifier, Matcher
from rcc.models.blip import BLIPWrapper

TEXTS = ["a photo of a cat", "the digit seven is on a dog", "red"]
WORDS = "text_decoder.bert.embeddings.word_embeddings.weight"


@pytest.fixture
def images(digits: Splits) -> list[Image.Image]:
    return [Image.fromarray(digits.test.images[index]) for index in (0, 7, 11)]


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
    assert {unit.name: unit.tied for unit in units if unit.obstacle} == {
        "text_decoder.bert.embeddings.word_embeddings": ("text_decoder.cls.predictions.decoder",)
    }


def test_every_unit_that_may_be_compressed_is_called_on_images_with_captions(
    blip: BLIPWrapper, images: list[Image.Image]
) -> None:
    called = set()
    for unit in blip.units():
        unit.module.register_forward_pre_hook(lambda *_, name=unit.name: called.add(name))
    blip.outputs(blip.prepare(images, TEXTS))
    assert called == {unit.name for unit in blip.units()}


def test_a_skeleton_holds_no_weight_and_keeps_the_shared_ones_shared(blip: BLIPWrapper, blip_checkpoint: Path) -> None:
    skeleton = BLIPWrapper.skeleton(blip_checkpoint)
    assert all(parameter.is_meta for parameter in skeleton.module.parameters())
    assert not any(buffer.is_meta for buffer in skeleton.module.buffers())
    head = skeleton.module.text_decoder.cls.predictions
    assert head.decoder.weight is skeleton.module.text_decoder.bert.embeddings.word_embeddings.weight
    assert head.decoder.bias is head.bias
    assert [(unit.name, unit.role, unit.tied) for unit in skeleton.units()] == [
        (unit.name, unit.role, unit.tied) for unit in blip.units()
    ]


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
    head = loaded.module.text_decoder.cls.predictions
    assert head.decoder.weight is loaded.module.text_decoder.bert.embeddings.word_embeddings.weight


def test_saved_files_are_the_same_bytes_whatever_the_model_was_used_for(
    blip: BLIPWrapper, images: list[Image.Image], tmp_path: Path
) -> None:
    blip.save_files(tmp_path / "fresh")
    blip.generate_caption(images, settings="published", max_length=6)
    blip.save_files(tmp_path / "used")
    BLIPWrapper.skeleton(tmp_path / "used").save_files(tmp_path / "again")
    names = ["config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json",
             "tokenizer_config.json"]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "fresh").iterdir()) == names
    for name in names:
        expected = (tmp_path / "fresh" / name).read_bytes()
        assert [(tmp_path / place / name).read_bytes() for place in ("used", "again")] == [expected] * 2
        assert str(tmp_path).encode() not in expected


def test_a_small_cascade_compresses_a_captioner_and_its_artifact_writes_the_same(
    blip: BLIPWrapper, images: list[Image.Image], tmp_path: Path
) -> None:
    from rcc.measurement import Measurement, Metric

    batches = [blip.prepare(images, TEXTS), blip.prepare(images[::-1], TEXTS)]

    def measure(model: BLIPWrapper) -> Measurement:
        with torch.no_grad():
            loss = float(torch.stack([model.loss(batch) for batch in batches]).mean())
        return Measurement((Metric("likelihood", float(np.exp(-loss)), "", True, None),), "likelihood", "test", 6)

    stages = [
        rcc.DARECompressor(0.5, solver="admm", allocation="sensitivity"),
        rcc.NulluProjector(0.6, metric="calibration"),
        rcc.AlphaEditor(num_epochs=1, repair="least_squares"),
    ]
    pipeline = rcc.RCCPipeline(stages, performance_threshold=1e-6)
    pipeline.run(blip, measure, batches)
    forms = {unit.name: unit.read() for unit in blip.units() if unit.role in blip.default_roles}
    assert len(forms) == 4 + 8 + 8 + 4 + 4 + 1
    assert all(form.rank is not None or int((form.sparse == 0).sum()) > 100 for form in forms.values())
    assert sum(form.rank is not None for form in forms.values()) > 5
    write_artifact(blip, tmp_path / "artifact", dtype="float32")
    loaded = load(tmp_path / "artifact")
    with torch.no_grad():
        found, expected = loaded.outputs(batches[0]), blip.outputs(batches[0])
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert loaded.generate_caption(images) == blip.generate_caption(images)


@pytest.mark.parametrize("name", [WORDS, "text_decoder.bert.encoder.layer.1.crossattention.self.key.weight"])
def test_a_missing_weight_is_named_and_not_made_up(blip_checkpoint: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"lacks the weights .*{name}"):
        BLIPWrapper.load(altered(blip_checkpoint, tmp_path, lambda weights: weights.pop(name)), device="cpu")


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


def test_gradient_checkpointing_changes_no_gradient(
    blip: BLIPWrapper, blip_checkpoint: Path, images: list[Image.Image]
) -> None:
    saving = BLIPWrapper.load(blip_checkpoint, device="cpu", gradient_checkpointing=True)
    gradients = []
    for model in (blip, saving):
        model.module.train()
        model.loss(model.prepare(images, TEXTS)).backward()
        gradients.append([parameter.grad for parameter in model.module.parameters()])
    assert saving.module.is_gradient_checkpointing
    for found, expected in zip(*gradients, strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            torch.testing.assert_close(found, expected)
