"""What holds for every adapter of a transformers model: bits, skeletons, files, cascades, refusals."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from toys.files import sound

import rcc
from rcc.artifact.load import load
from rcc.artifact.write import write_artifact
from rcc.calibration.gradients import channel_gradients
from rcc.calibration.sensitivity import sensitivities
from rcc.calibration.weight_gradients import weight_gradients
from rcc.data.files.sounds import decoded
from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.layers.activation_checkpointing import marked_blocks
from rcc.measurement import Measurement, Metric
from rcc.models.registry import adapter_class, load_model
from rcc.stages.alpha.learned_scales import learnable_scales
from rcc.stages.quant.quantizer import Quantizer

NAMES = ["blip", "blip_retrieval", "clip", "clip_vision", "siglip", "vit", "whisper"]
TEXTS = ["a photo of the digit seven", "six", "the digit two is on a dog"]
FINAL = {  # a weight that only this architecture has
    "blip": "text_decoder.bert.encoder.layer.1.crossattention.self.key.weight",
    "blip_retrieval": "itm_head.bias",
    "clip": "logit_scale",
    "clip_vision": "visual_projection.weight",
    "siglip": "vision_model.head.probe",
    "vit": "classifier.bias",
    "whisper": "model.encoder.layers.1.fc2.bias",
}
LEFT = "model.encoder."
"""What the names of weights begin with in a whole that a model is a part of."""
Random = Callable[[str], Any]
Checkpoint = Callable[[str], Path]


@pytest.fixture
def batches(digits: Splits) -> Callable[[Any], list[dict[str, torch.Tensor]]]:
    """Two batches of three images with texts, or of three sounds, and labels, as a job prepares them."""

    def prepare(model: Any) -> list[dict[str, torch.Tensor]]:
        made = []
        for start in (0, 3):
            if "audio" in model.reads:
                sounds = [decoded(sound(start + index, index, seconds=0.2 + 0.2 * index), "tone") for index in range(3)]
                made.append({**model.prepare(audio=sounds), "labels": torch.tensor([0, 1, 0])})
                continue
            images = [digits.test.images[start + index] for index in range(3)]
            made.append({**model.prepare(images, TEXTS), "labels": torch.arange(3)})
        return made

    return prepare


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", NAMES)
def test_an_artifact_without_compression_gives_the_same_bits(
    name: str, random_model: Random, batches: Any, tmp_path: Path
) -> None:
    model = random_model(name)
    write_artifact(model, tmp_path / "artifact", dtype="float32")
    loaded = load(tmp_path / "artifact")
    assert type(loaded) is type(model) is adapter_class(name)
    for batch, again in zip(batches(model), batches(loaded), strict=True):
        assert same(again, batch)
        with torch.no_grad():
            assert same(loaded.outputs(again), model.outputs(batch))
    assert not loaded.module.training


@pytest.mark.parametrize("name", NAMES)
def test_a_skeleton_holds_no_weight_and_has_the_same_units(
    name: str, random_model: Random, checkpoint_of: Checkpoint
) -> None:
    model, skeleton = random_model(name), adapter_class(name).skeleton(checkpoint_of(name))
    assert all(parameter.is_meta for parameter in skeleton.module.parameters())
    assert not any(buffer.is_meta for buffer in skeleton.module.buffers())
    assert not skeleton.module.training

    def told(adapter: Any) -> list[Any]:
        return [(unit.name, unit.kind, unit.role, unit.tower, unit.tied, unit.obstacle) for unit in adapter.units()]

    assert told(skeleton) == told(model)


@pytest.mark.parametrize("name", NAMES)
def test_saved_files_are_the_same_bytes_whatever_the_model_was_used_for(
    name: str, random_model: Random, batches: Any, tmp_path: Path
) -> None:
    model = random_model(name)
    model.save_files(tmp_path / "fresh")
    model.outputs(batches(model)[0])
    model.save_files(tmp_path / "used")
    adapter_class(name).skeleton(tmp_path / "used").save_files(tmp_path / "again")
    files = sorted(path.name for path in (tmp_path / "fresh").iterdir())
    tokenizer = ["tokenizer.json", "tokenizer_config.json"] if getattr(model, "tokenizer", None) else []
    more = {"blip": ["generation_config.json"], "whisper": ["audio.json"]}.get(name, [])
    assert files == sorted(["config.json", *more, "preprocessor_config.json", *tokenizer])
    for file in files:
        expected = (tmp_path / "fresh" / file).read_bytes()
        assert [(tmp_path / place / file).read_bytes() for place in ("used", "again")] == [expected] * 2
        assert str(tmp_path).encode() not in expected


@pytest.mark.parametrize("name", NAMES)
def test_every_unit_without_an_obstacle_of_its_own_is_called(name: str, random_model: Random, batches: Any) -> None:
    model, called = random_model(name), set()
    units = [unit for unit in model.units() if "never calls it" not in unit.obstacle]
    for unit in units:
        unit.module.register_forward_pre_hook(lambda *_, name=unit.name: called.add(name))
    model.outputs(batches(model)[0])
    assert called == {unit.name for unit in units}
    assert {unit.role for unit in units} >= set(model.default_roles)


@pytest.mark.parametrize("name", NAMES)
def test_a_small_cascade_compresses_it_and_the_artifact_gives_the_same_bits(
    name: str, random_model: Random, batches: Any, tmp_path: Path
) -> None:
    model = random_model(name)
    calibration = batches(model)
    with torch.no_grad():
        dense = [model.outputs(batch) for batch in calibration]

    def measure(adapter: Any) -> Measurement:
        with torch.no_grad():
            pairs = [(adapter.outputs(batch), wanted) for batch, wanted in zip(calibration, dense, strict=True)]
        cosines = [
            torch.cosine_similarity(found[key].flatten(1), wanted[key].flatten(1)).mean()
            for found, wanted in pairs
            for key in wanted
        ]
        value = max(1e-3, float(torch.stack(cosines).mean()))
        return Measurement((Metric("cosine", value, "", True, None),), "cosine", "selection", 6)

    stages = [
        rcc.DARECompressor(0.5, solver="admm", allocation="sensitivity"),
        rcc.NulluProjector(0.6, metric="calibration"),
        rcc.AlphaEditor(num_epochs=1, repair="least_squares"),
        Quantizer(8),
    ]
    rcc.RCCPipeline(stages, performance_threshold=1e-6).run(model, measure, calibration)
    forms = [unit.read() for unit in model.units() if unit.role in model.default_roles and not unit.obstacle]
    assert len(forms) >= 13
    changed = [form.rank is not None or bool((form.sparse == 0).any()) for form in forms]
    assert sum(changed) >= len(forms) - 1
    assert any(form.rank is not None for form in forms)
    write_artifact(model, tmp_path / "artifact", dtype="float32")
    loaded = load(tmp_path / "artifact")
    with torch.no_grad():
        assert same(loaded.outputs(calibration[0]), model.outputs(calibration[0]))
    assert math.isfinite(measure(loaded).main.value)


def copied(checkpoint: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    weights = load_file(copy / "model.safetensors")
    change(weights)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_weight_is_named_and_not_made_up(name: str, checkpoint_of: Checkpoint, tmp_path: Path) -> None:
    copy = copied(checkpoint_of(name), tmp_path, lambda weights: weights.pop(FINAL[name]))
    with pytest.raises(UserError, match=f"lacks the weights {FINAL[name].removeprefix(LEFT)};"):
        load_model(name, path=copy, device="cpu")


@pytest.mark.parametrize("name", NAMES)
def test_an_unexpected_weight_is_named(name: str, checkpoint_of: Checkpoint, tmp_path: Path) -> None:
    copy = copied(checkpoint_of(name), tmp_path, lambda weights: weights.update({"head.weight": torch.ones(2)}))
    with pytest.raises(UserError, match=r"does not have: head\.weight"):
        load_model(name, path=copy, device="cpu")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "whisper"])
def test_an_image_processor_for_another_size_is_refused_with_both_sizes(
    name: str, checkpoint_of: Checkpoint, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(checkpoint_of(name), tmp_path / "copy"))
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    settings["crop_size" if "clip" in name else "size"] = {"height": 24, "width": 24}
    (copy / "preprocessor_config.json").write_text(json.dumps(settings))
    message = "makes pixels of 3 × 24 × 24 and the model takes 3 × 32 × 32"
    with pytest.raises(UserError, match=message):
        load_model(name, path=copy, device="cpu")
    with pytest.raises(UserError, match=message):
        adapter_class(name).skeleton(copy)


@pytest.mark.parametrize("name", NAMES)
def test_the_dtype_asked_for_is_the_dtype_computed_in(name: str, checkpoint_of: Checkpoint, batches: Any) -> None:
    model = load_model(name, path=checkpoint_of(name), device="cpu", dtype="bfloat16")
    outputs = model.outputs(batches(model)[0])
    assert {output.dtype for output in outputs.values()} == {torch.bfloat16}
    assert all(bool(torch.isfinite(output).all()) for output in outputs.values())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "clip_vision"])  # which has no loss
def test_gradient_checkpointing_changes_no_gradient(
    name: str, random_model: Random, checkpoint_of: Checkpoint, batches: Any
) -> None:
    plain = random_model(name)
    saving = load_model(name, path=checkpoint_of(name), device="cpu", gradient_checkpointing=True)
    assert saving.module.is_activation_checkpointing
    for model in (plain, saving):
        model.module.train()
        model.loss(batches(model)[0]).backward()
    expected = {key: parameter.grad for key, parameter in plain.module.named_parameters()}
    assert sum(gradient is not None for gradient in expected.values()) > 20
    for key, parameter in saving.module.named_parameters():
        assert (parameter.grad is None) == (expected[key] is None)
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected[key])


@pytest.mark.parametrize("name", NAMES)
def test_gradient_checkpointing_acts_in_every_gradient_pass_of_calibration_and_changes_no_result(
    name: str, random_model: Random, checkpoint_of: Checkpoint, batches: Any
) -> None:
    plain = random_model(name)
    saving = load_model(name, path=checkpoint_of(name), device="cpu", gradient_checkpointing=True)
    blocks = {id(block) for block in marked_blocks(saving.module)}
    path = next(path for path, part in saving.module.named_modules() if id(part) in blocks)
    expected, calls = gradient_passes(plain, batches(plain), f"{path}.")
    found, more_calls = gradient_passes(saving, batches(saving), f"{path}.")
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-9)
    # Two items a pass, one for the scales: each backward pass calls the block once more.
    assert [more - plain for more, plain in zip(more_calls, calls, strict=True)] == [2, 2, 2, 1]


def gradient_passes(
    model: Any, items: list[dict[str, torch.Tensor]], path: str
) -> tuple[list[torch.Tensor], list[int]]:
    """What each gradient pass finds for a layer of the block at `path`, and how often it calls that layer."""
    unit = next(unit for unit in model.units() if unit.name.startswith(path) and unit.kind == "linear")
    loss = partial(squares, model)
    called: list[int] = []
    unit.module.register_forward_pre_hook(lambda *_: called.append(1))
    channels = channel_gradients(model.module, [unit], items, loss)[unit.name]
    calls = [len(called)]
    (weights,) = weight_gradients(model.module, [unit], items, loss, squared=True).values()
    calls.append(len(called))
    (sensitivity,) = sensitivities(model, [unit], items, torch.Generator().manual_seed(0)).values()
    calls.append(len(called))
    with learnable_scales(model.module, [unit]) as raws:
        loss(items[0]).backward()
        (scale,) = [raw.grad for raw in raws.values()]
        calls.append(len(called))
    found = [channels.norm, channels.sensitivity, weights, sensitivity.rows, sensitivity.variance, scale]
    return found, [after - before for before, after in pairwise([0, *calls])]


def squares(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """A loss that every model has."""
    return torch.stack([output.square().mean() for output in model.outputs(batch).values()]).sum()


@pytest.mark.parametrize("name", ["clip_vision", "vit"])
def test_a_model_of_images_alone_passes_over_texts_that_come_with_them(
    name: str, random_model: Random, digits: Splits
) -> None:
    model = random_model(name)
    assert set(model.prepare([digits.test.images[0]], ["a seven"])) == {"pixel_values"}
    with pytest.raises(UserError, match=f"the model '{name}' reads images and no texts"):
        model.prepare(texts=["a seven"])
