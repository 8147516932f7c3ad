"""ViT and CLIP's vision tower: the same bits as transformers' own, class names, losses."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import CLIPVisionModelWithProjection, ViTForImageClassification

from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.models.abilities import Captioner, Classifier
from rcc.models.registry import load_model
from rcc.models.transformers.clip_vision import CLIPVisionWrapper
from rcc.models.transformers.vit import ViTWrapper

Random = Callable[[str], Any]
Checkpoint = Callable[[str], Path]


@pytest.fixture
def images(digits: Splits) -> list[Image.Image]:
    return [digits.test.images[index] for index in (0, 7, 11)]


def test_logits_and_loss_of_a_classifier_are_the_models_own_to_the_bit(
    random_model: Random, checkpoint_of: Checkpoint, images: list[Image.Image]
) -> None:
    vit = random_model("vit")
    reference = ViTForImageClassification.from_pretrained(checkpoint_of("vit")).eval()
    batch, labels = vit.prepare(images), torch.tensor([3, 0, 9])
    with torch.no_grad():
        expected = reference(**batch, labels=labels)
        assert torch.equal(vit.outputs(batch)["logits"], expected.logits)
        assert torch.equal(vit.loss({**batch, "labels": labels}), expected.loss)
    with pytest.raises(UserError, match="needs labels"):
        vit.loss(batch)


def test_class_names_are_those_of_the_config_in_the_order_of_the_logits(
    random_model: Random, checkpoint_of: Checkpoint, tmp_path: Path
) -> None:
    vit = random_model("vit")
    numbers = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    assert vit.class_names == numbers
    assert isinstance(vit, Classifier)
    assert not isinstance(vit, Captioner)
    copy = Path(shutil.copytree(checkpoint_of("vit"), tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["id2label"] = {str(index): f"LABEL_{index}" for index in range(10)}
    (copy / "config.json").write_text(json.dumps(config))
    assert load_model("vit", path=copy, device="cpu").class_names == ()


def test_units_of_a_classifier_have_the_exact_roles(random_model: Random) -> None:
    layers = 2
    assert Counter((unit.tower, unit.role) for unit in random_model("vit").units()) == {
        ("vision", "attention"): 4 * layers,
        ("vision", "mlp"): 2 * layers,
        ("vision", "classifier"): 1,
        ("vision", "embedding"): 1,
        ("vision", "norm"): 2 * layers + 1,
    }


def test_embeddings_of_a_vision_tower_are_the_models_own_to_the_bit(
    random_model: Random, checkpoint_of: Checkpoint, images: list[Image.Image]
) -> None:
    tower = random_model("clip_vision")
    reference = CLIPVisionModelWithProjection.from_pretrained(checkpoint_of("clip_vision")).eval()
    batch = tower.prepare(images)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(reference(**batch).image_embeds, dim=-1)
        assert torch.equal(tower.outputs(batch)["image_embeds"], expected)
    assert torch.equal(tower.encode_image(images), expected)
    assert torch.equal(tower.encode_image(batch["pixel_values"]), expected)
    assert {unit.tower for unit in tower.units()} == {"vision"}
    assert not isinstance(tower, Classifier)


def test_a_vision_tower_has_no_loss_and_no_published_checkpoint(random_model: Random) -> None:
    tower = random_model("clip_vision")
    with pytest.raises(UserError, match="has no loss of its own"):
        tower.loss(tower.prepare([Image.new("RGB", (32, 32))]))
    with pytest.raises(UserError, match="model 'clip_vision' needs a path"):
        CLIPVisionWrapper.load(device="cpu")


def test_outputs_say_what_is_missing(random_model: Random) -> None:
    for name in ("vit", "clip_vision"):
        with pytest.raises(UserError, match=rf"a batch of '{name}' needs pixel_values; this one has \['labels'\]"):
            random_model(name).outputs({"labels": torch.zeros(1)})


def test_a_checkpoint_saved_under_the_old_names_of_its_weights_is_read(
    random_model: Random, checkpoint_of: Checkpoint, tmp_path: Path
) -> None:
    """Published files say vit.encoder.layer.0.attention.attention.query where the library now says otherwise."""
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(checkpoint_of("vit"), tmp_path / "copy"))
    weights = load_file(copy / "model.safetensors")
    old = {
        ".layers.": ".encoder.layer.",
        ".attention.q_proj": ".attention.attention.query",
        ".attention.k_proj": ".attention.attention.key",
        ".attention.v_proj": ".attention.attention.value",
        ".attention.o_proj": ".attention.output.dense",
        ".mlp.fc1": ".intermediate.dense",
        ".mlp.fc2": ".output.dense",
    }
    renamed = {}
    for name, tensor in weights.items():
        for now, then in old.items():
            name = name.replace(now, then)
        renamed[name] = tensor
    assert any(".encoder.layer.0.attention.attention.query" in name for name in renamed)
    save_file(renamed, copy / "model.safetensors", metadata={"format": "pt"})
    found = ViTWrapper.load(copy, device="cpu").module.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in random_model("vit").module.state_dict().items())
