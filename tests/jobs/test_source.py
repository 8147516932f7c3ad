"""Where a job's model comes from: checkpoints, artifacts to compress further, networks of the user's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_model
from toys.networks import ResNet

import rcc
from rcc.artifact.write import write_artifact
from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.jobs.source import load_artifact, load_source, plan_source
from rcc.models.registry import load_model
from rcc.models.transformers.clip import CLIPWrapper

Checkpoint = Callable[[str], Path]


@pytest.fixture
def artifact(clip: CLIPWrapper, tmp_path: Path) -> Path:
    """Of a CLIP whose layers are held as factors."""
    pipeline = rcc.RCCPipeline([rcc.NulluProjector(0.6, energy_threshold=None)], performance_threshold=1e-6)
    metric = rcc.Measurement((rcc.Metric("one", 1.0, "", True, None),), "one", "selection", 1)
    pipeline.run(clip, lambda _: metric)
    write_artifact(clip, tmp_path / "artifact", dtype="float32")
    return tmp_path / "artifact"


@pytest.fixture
def network_weights(tmp_path: Path) -> Path:
    save_model(ResNet(), str(tmp_path / "weights.safetensors"))
    return tmp_path / "weights.safetensors"


def test_an_artifact_is_a_model_to_compress_further(clip: CLIPWrapper, artifact: Path, digits: Splits) -> None:
    options = {"name": "clip", "path": str(artifact), "dtype": "float32", "gradient_checkpointing": True}
    model = load_source(options, "cpu")
    assert [unit.read().rank for unit in model.units()] == [unit.read().rank for unit in clip.units()]
    assert any(unit.read().rank for unit in model.units())
    assert model.module.is_activation_checkpointing
    batch = model.prepare(list(digits.test.images[0:2]), ["a seven", "a two"])
    with torch.no_grad():
        found, expected = model.outputs(batch), clip.outputs(batch)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    plan = plan_source(options)
    assert [unit.read().rank for unit in plan.units()] == [unit.read().rank for unit in clip.units()]
    assert all(parameter.is_meta for parameter in plan.module.parameters())
    assert load_source({**options, "dtype": "bfloat16"}, "cpu").module.logit_scale.dtype is torch.bfloat16


def test_an_artifact_of_another_model_is_refused_with_the_one_to_name(artifact: Path) -> None:
    for ask in (load_source, plan_source):
        with pytest.raises(
            UserError, match=rf"artifact of the model 'clip' and model=vit .* use model=clip model\.path={artifact}"
        ):
            ask({"name": "vit", "path": str(artifact)}, *(["cpu"] if ask is load_source else []))


@pytest.mark.parametrize("name", ["blip", "blip_retrieval", "clip", "clip_vision", "siglip", "vit"])
def test_every_model_is_loaded_and_planned_by_its_name(name: str, checkpoint_of: Checkpoint) -> None:
    options = {"name": name, "path": str(checkpoint_of(name)), "dtype": "float32", "gradient_checkpointing": False}
    model, plan = load_source(options, "cpu"), plan_source(options)
    assert model.name == plan.name == name
    assert [(unit.name, unit.shape) for unit in plan.units()] == [(unit.name, unit.shape) for unit in model.units()]


def test_a_network_and_its_artifact_are_loaded_by_the_target_that_the_user_says(
    network_weights: Path, tmp_path: Path, digits: Splits
) -> None:
    options = {
        "name": "module", "target": "toys.networks:ResNet", "arguments": {"width": 8}, "image_size": 32,
        "path": str(network_weights), "class_names": None,
    }  # fmt: skip
    model = load_source(options, "cpu")
    write_artifact(model, tmp_path / "artifact", dtype="float32")
    batch = model.prepare(list(digits.test.images[0:2]))
    for again in (
        load_artifact(tmp_path / "artifact", options),
        load_source({**options, "path": str(tmp_path / "artifact"), "image_size": 7}, "cpu"),
    ):
        assert torch.equal(again.prepare(list(digits.test.images[0:2]))["pixel_values"], batch["pixel_values"])
        with torch.no_grad():
            assert torch.equal(again.outputs(batch)["logits"], model.outputs(batch)["logits"])
    plan = plan_source({**options, "path": str(tmp_path / "artifact")})
    assert [unit.shape for unit in plan.units()] == [unit.shape for unit in model.units()]
    for other in ({"name": "clip_tiny"}, {**options, "target": None}):
        with pytest.raises(UserError, match=r"model=module model\.target=toys.networks:ResNet"):
            load_artifact(tmp_path / "artifact", other)
    with pytest.raises(UserError, match="does not fit the model"):
        load_artifact(tmp_path / "artifact", {**options, "arguments": {"width": 4}})


def test_a_command_compresses_an_artifact_further(rcc_run, small_clip, tmp_path: Path) -> None:
    quick = ("debug=quick", "threads=1")
    assert rcc_run(*quick, *small_clip, "stage=nullu", "hydra.run.dir=first")[0] == 0
    code, out, err = rcc_run(*quick, "stage=dare", "model=clip", "model.path=first/artifact", "hydra.run.dir=second")
    assert code == 0, err
    stored = json.loads((tmp_path / "second/artifact/manifest.json").read_text())["adapter"]
    assert stored == "clip"
    first, second = (tmp_path / name / "artifact/weights.safetensors" for name in ("first", "second"))
    assert second.stat().st_size < first.stat().st_size
    code, out, err = rcc_run("dry_run=true", "stage=dare", "model=clip", "model.path=first/artifact")
    assert (code, "dense" in out) == (0, True), err


def test_a_command_plans_a_network_of_the_users_own(rcc_run, tmp_path: Path, network_weights: Path) -> None:
    (tmp_path / "my_nets.py").write_text(
        "from toys.networks import ResNet\n\ndef build(width):\n    return ResNet(width=width)\n"
    )
    code, out, err = rcc_run(
        "dry_run=true", "model=module", "model.target=my_nets:build", "model.arguments={width: 8}",
        "model.path=weights.safetensors", "stage=dare",
    )  # fmt: skip
    assert code == 0, err
    assert "blocks.*.conv2" in out
    code, _, err = rcc_run("dry_run=true", "model=module", "model.path=weights.safetensors", "stage=dare")
    assert (code, "model.target=my_package.nets:build" in err) == (2, True), err


def test_a_model_that_needs_a_path_or_another_name_says_so(rcc_run, checkpoint_of: Checkpoint) -> None:
    code, _, err = rcc_run("model=clip_vision", "hydra.run.dir=run")
    assert (code, "model 'clip_vision' needs a path" in err) == (2, True), err
    code, _, err = rcc_run("model=clip", f"model.path={checkpoint_of('blip')}", "hydra.run.dir=run2")
    assert (code, "Use model=blip" in err) == (2, True), err


def test_the_embedded_model_is_still_loaded_by_its_name() -> None:
    assert load_source({"name": "clip_tiny", "path": None}, "cpu").name == load_model("clip_tiny", device="cpu").name
