"""Models by name, devices and dtypes, and modules of one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from rcc.errors import UserError
from rcc.models.device import pick_device, pick_dtype
from rcc.models.own.module import ModuleAdapter
from rcc.models.registry import adapter_class, adapter_for, load_model, load_skeleton
from rcc.models.transformers.clip import CLIPWrapper
from rcc.models.transformers.clip_tiny import embedded


def test_a_checkpoint_directory_is_loaded_by_name_and_path(clip_checkpoint: Path) -> None:
    model = load_model("clip", path=clip_checkpoint, device="cpu")
    assert isinstance(model, CLIPWrapper)
    assert model.device == torch.device("cpu")


def test_adapters_are_found_by_the_name_in_a_manifest() -> None:
    assert adapter_class("clip") is CLIPWrapper
    assert adapter_class("bare") is ModuleAdapter
    names = "bare, blip, blip_retrieval, clip, clip_vision, module, siglip, text_encoder, transformers, vit, whisper"
    with pytest.raises(UserError, match=rf"unknown adapter 'clp'\. Did you mean 'clip'\? Available: {names}\."):
        adapter_class("clp")


def test_an_unknown_model_or_option_lists_what_exists() -> None:
    with pytest.raises(UserError, match=r"unknown model 'clip_tinny'\. Did you mean 'clip_tiny'"):
        load_model("clip_tinny")
    with pytest.raises(UserError, match="model 'clip_tiny': unknown option 'path'"):
        load_model("clip_tiny", path="elsewhere")
    with pytest.raises(UserError, match=r"unknown option 'dtyp'\. Did you mean 'dtype'"):
        load_model("clip", dtyp="float32")


def test_a_skeleton_is_loaded_by_name(clip_checkpoint: Path) -> None:
    for skeleton in (load_skeleton("clip", clip_checkpoint), load_skeleton("clip_tiny")):
        assert all(parameter.is_meta for parameter in skeleton.module.parameters())
    with pytest.raises(UserError, match=r"takes no path; use model=clip model\.path=x"):
        load_skeleton("clip_tiny", "x")
    with pytest.raises(UserError, match="needs a path"):
        load_skeleton("clip")
    with pytest.raises(UserError, match="unknown model"):
        load_skeleton("murmur")


@pytest.mark.parametrize("name", ["blip", "blip_retrieval", "clip", "clip_vision", "siglip", "vit", "whisper"])
def test_a_checkpoint_says_which_model_loads_it(name: str, checkpoint_of: Callable[[str], Path]) -> None:
    assert adapter_for(checkpoint_of(name)) == name
    other = "clip" if name == "vit" else "vit"
    with pytest.raises(UserError, match=f"Use model={name} model.path="):
        load_model(other, path=checkpoint_of(name), device="cpu")


def test_every_other_checkpoint_is_loaded_by_the_general_adapter(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["T5ForConditionalGeneration"]}')
    assert adapter_for(tmp_path) == "transformers"
    with pytest.raises(UserError, match="does not exist"):
        adapter_for(tmp_path / "nowhere")


def test_the_embedded_checkpoint_is_found_by_name() -> None:
    assert (embedded() / "model.safetensors").is_file()


def test_auto_takes_an_accelerator_before_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device() == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device() == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device() == torch.device("cuda")
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="there are 1 CUDA devices"):
        pick_device("cuda:3")


def test_a_device_or_dtype_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"unknown device 'gpu'.*Available: auto, cpu"):
        pick_device("gpu")
    with pytest.raises(UserError, match=r"'cuda' was asked for and this machine has only .*device=auto"):
        pick_device("cuda")
    assert pick_dtype("bfloat16") is pick_dtype(torch.bfloat16)
    with pytest.raises(UserError, match="unknown dtype 'int8'"):
        pick_dtype("int8")


def test_a_module_adapter_calls_the_module_and_names_its_units(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    model = ModuleAdapter(module)
    batch = {"input": torch.randn(5, 4)}
    assert [(unit.name, unit.role) for unit in model.units()] == [("0", "linear"), ("2", "linear")]
    assert torch.equal(model.outputs(batch)["output"], module(batch["input"]))
    model.save_files(tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_module_adapter_says_which_function_is_missing() -> None:
    class Silent(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, str]:
            return {"text": "no tensor"}

    model = ModuleAdapter(Silent())
    with pytest.raises(UserError, match=r"give a function batch -> tensors by name.*there is no tensor"):
        model.outputs({"x": torch.zeros(1)})
    with pytest.raises(UserError, match=r"has no loss; give .* ModuleAdapter\(module, loss=\.\.\.\)"):
        model.loss({})
    with pytest.raises(UserError, match="has no prepare"):
        model.prepare(texts=["a"])
    with pytest.raises(UserError, match=r"rcc\.load\(directory, skeleton=module\)"):
        ModuleAdapter.skeleton(Path("artifact"))


def test_a_module_adapter_uses_the_functions_it_is_given() -> None:
    module = nn.Linear(2, 2)
    model = ModuleAdapter(
        module,
        outputs=lambda batch: {"y": module(batch["x"])},
        loss=lambda batch: module(batch["x"]).square().mean(),
        prepare=lambda images, texts: {"x": torch.full((1, 2), float(len(images or ())))},
        roles=lambda name, kind: ("attention", "text"),
        default_roles=("attention",),
    )
    batch = model.prepare(images=[None] * 3)
    assert batch["x"].tolist() == [[3.0, 3.0]]
    assert torch.equal(model.outputs(batch)["y"], module(batch["x"]))
    assert model.loss(batch) == module(batch["x"]).square().mean()
    assert model.default_roles == ("attention",)
