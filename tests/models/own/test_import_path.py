"""Networks built from import paths and filled from safetensors: what fits, and what is refused with its reason."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from toys.networks import ResNet, Tied

from rcc.errors import UserError
from rcc.models.own.import_path import build, fill
from rcc.models.registry import load_skeleton


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_model(ResNet(), str(tmp_path / "weights.safetensors"))
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("toys.networks", "must be module:name"),
        ("small networks:build", "must be module:name"),
        (":build", "must be module:name"),
        ("no_such_package.nets:build", "cannot be imported: No module named 'no_such_package'"),
        ("toys.networks:biuld", r"'toys.networks' has no 'biuld'\. Did you mean 'build'\?"),
        ("toys.networks:number", "is of type int; it must be a class or a function"),
        ("toys.networks:nothing", "made of type str and no torch.nn.Module"),
        ("toys.networks:failing", "failed with arguments {}: RuntimeError: out of paper"),
    ],
)
def test_a_target_that_makes_no_network_is_refused(target: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(target)


def test_arguments_reach_the_target_and_wrong_ones_are_told() -> None:
    assert build("toys.networks:build", {"classes": 3}).head.out_features == 3
    with pytest.raises(
        UserError, match=r"cannot be called with arguments {'clases': 3}: .*'clases'\. It takes \(classes=10\)"
    ):
        build("toys.networks:build", {"clases": 3})
    assert build("toys.networks:build", [4]).head.out_features == 4
    assert build("toys.networks:Named.from_name", {"name": "five"}).head.out_features == 5
    with pytest.raises(UserError, match=r"'toys.networks:Named' has no 'from_nam'\. Did you mean 'from_name'\?"):
        build("toys.networks:Named.from_nam")
    with pytest.raises(UserError) as error:
        build("toys.networks:Named")
    assert str(error.value) == (
        "model.target 'toys.networks:Named' cannot be called with arguments {}: missing a required argument: 'classes'."
        " It takes (classes, depth, width=8). It needs classes, depth: give model.arguments={classes: …, depth: …}."
    )


def test_a_package_in_the_current_directory_is_found_and_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('hidden')")
    (tmp_path / "users_own_nets.py").write_text("import json, torch\ndef build():\n    return torch.nn.Linear(2, 2)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    assert build("users_own_nets:build").in_features == 2
    del sys.modules["users_own_nets"]


def test_weights_that_do_not_fit_are_named(weights: Path, tmp_path: Path) -> None:
    tensors = load_file(weights)
    broken = {**tensors, "extra": torch.ones(1), "head.weight": torch.ones(10, 5)}
    del broken["blocks.0.bn1.running_mean"]
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(UserError) as error:
        fill(ResNet(), tmp_path / "broken.safetensors")
    assert [problem.split("': ")[-1].split("' ")[-1] for problem in error.value.problems] == [
        "lacks the weights blocks.0.bn1.running_mean; they are not made up.",
        "holds weights that the network does not have: extra.",
        "head.weight has shape (10, 5) and the network needs (10, 16).",
    ]
    tensors["head.bias"][3] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(UserError, match=r"NaN or infinite weights in head\.bias"):
        fill(ResNet(), tmp_path / "nan.safetensors")


def test_buffers_of_other_versions_may_be_missing_or_left_over_and_are_named(
    weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tensors = load_file(weights)
    del tensors["blocks.0.bn1.num_batches_tracked"]
    tensors["stem.position_ids"] = torch.arange(4)
    save_file(tensors, weights)
    module = ResNet()
    fill(module, weights)
    assert torch.equal(module.head.weight, tensors["head.weight"])
    assert [record.message.split("': ")[1] for record in caplog.records] == [
        "the buffers stem.position_ids are passed over.",
        "the buffers blocks.0.bn1.num_batches_tracked are as the network makes them.",
    ]


def test_the_weights_of_another_network_are_told_by_their_names_or_first_shapes(weights: Path, tmp_path: Path) -> None:
    save_file({"encoder.weight": torch.ones(2), "encoder.bias": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError) as error:
        fill(ResNet(), tmp_path / "other.safetensors")
    assert "holds the weights of another network: it has encoder.bias, encoder.weight, and the network" in str(
        error.value
    )
    with pytest.raises(UserError) as error:
        fill(ResNet(width=4), weights)
    assert len(error.value.problems) == 9
    assert "more of" in error.value.problems[-1]


def test_pickles_folders_and_damage_are_refused(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(
        UserError,
        match=r"a pickle can run code.*python -c 'import torch.*weights_only=True.*\"weights.safetensors\"\)'",
    ):
        fill(ResNet(), tmp_path / "weights.pt")
    torch.save(ResNet().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(UserError) as error:
        fill(ResNet(), tmp_path / "weights.pt")
    program = shlex.split(str(error.value).partition("convert its state dict once: ")[2])
    monkeypatch.chdir(tmp_path)
    weights.unlink()
    exec(program[2], {})
    fill(ResNet(), tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="is a directory"):
        fill(ResNet(), tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        fill(ResNet(), tmp_path / "nowhere.safetensors")
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        fill(ResNet(), weights)


@pytest.mark.parametrize("kept", ["one.weight", "two.weight"])
def test_a_shared_weight_may_be_in_the_file_once(tmp_path: Path, kept: str) -> None:
    save_file({kept: torch.arange(16.0).reshape(4, 4)}, tmp_path / "tied.safetensors")
    module = Tied()
    fill(module, tmp_path / "tied.safetensors")
    assert module.one.weight is module.two.weight
    assert module.one.weight.flatten().tolist() == list(range(16))
    skeleton = load_skeleton("module", target="toys.networks:Tied").module
    assert skeleton.one.weight is skeleton.two.weight
    assert skeleton.one.weight.is_meta


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_a_prefix_that_a_wrapper_put_before_all_names_is_left_away_and_said(
    prefix: str, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = load_file(weights)
    save_file({f"{prefix}{name}": tensor for name, tensor in expected.items()}, weights)
    module = ResNet()
    fill(module, weights)
    assert all(torch.equal(tensor, module.state_dict()[name]) for name, tensor in expected.items())
    assert f"every name begins with '{prefix}'" in caplog.text


def test_a_network_whose_own_names_begin_so_keeps_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = torch.nn.ModuleDict({"module": torch.nn.Linear(2, 2)})
    save_file({"module.weight": torch.ones(2, 2), "module.bias": torch.zeros(2)}, tmp_path / "own.safetensors")
    fill(module, tmp_path / "own.safetensors")
    assert bool((module["module"].weight == 1).all())
    assert not caplog.text
