from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from toys.adapters import Toy, ToyAdapter, compress, dense_toy, outputs, quantise

from rcc.artifact.restore import restore
from rcc.artifact.write import write_artifact
from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.layers.grid import from_grid, to_grid
from rcc.layers.modules import FormConv, FormEmbedding, FormLinear
from rcc.models.own.module import ModuleAdapter


def state(toy: ToyAdapter) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in toy.module.state_dict().items()}


def assert_same_state(toy: ToyAdapter, expected: dict[str, torch.Tensor]) -> None:
    found = toy.module.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_dense_model_becomes_the_compressed_one(artifact: Path, compressed: ToyAdapter) -> None:
    target = dense_toy(seed=9)
    restore(target, artifact)
    assert_same_state(target, state(compressed))
    assert torch.equal(outputs(target), outputs(compressed))
    assert isinstance(target.module.up, FormLinear)
    assert isinstance(target.module.words, FormEmbedding)
    assert type(target.module.image) is nn.Conv2d
    assert target.module.image.bias is not None
    assert target.module.two.left is target.module.one.left


def test_a_compressed_model_goes_back_to_plain_modules(tmp_path: Path) -> None:
    toy = dense_toy()
    expected, answers = state(toy), outputs(toy)
    write_artifact(toy, tmp_path / "dense")
    compress(toy)
    restore(toy, tmp_path / "dense")
    assert_same_state(toy, expected)
    assert torch.equal(outputs(toy), answers)
    assert [type(getattr(toy.module, name)) for name in ("words", "image", "up", "one")] == [
        nn.Embedding, nn.Conv2d, nn.Linear, nn.Linear,
    ]  # fmt: skip
    assert toy.module.image.bias is None
    assert toy.module.one.weight is toy.module.two.weight


def test_one_compressed_structure_replaces_another(artifact: Path, compressed: ToyAdapter) -> None:
    target = dense_toy(seed=4)
    for unit in target.units():
        if unit.factorable:
            outs, ins = unit.shape
            unit.write(Form(left=torch.ones(outs, 5), right=torch.ones(5, ins), scale=torch.ones(outs)))
    restore(target, artifact)
    assert_same_state(target, state(compressed))
    assert torch.equal(outputs(target), outputs(compressed))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_storage_equals_an_explicit_cast(dtype: str, compressed: ToyAdapter, tmp_path: Path) -> None:
    write_artifact(compressed, tmp_path / "artifact", dtype=dtype)
    target = dense_toy(seed=9)
    restore(target, tmp_path / "artifact", dtype=torch.float32)
    narrow = getattr(torch, dtype)
    expected = {
        name: tensor.to(narrow).float() if tensor.is_floating_point() else tensor
        for name, tensor in state(compressed).items()
    }
    assert_same_state(target, expected)
    restore(target, tmp_path / "artifact")
    assert target.module.up.left.dtype == narrow
    assert target.module.batch_norm.num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize("entropy", ["zstd", "none"])
def test_quantised_units_come_back_bit_for_bit(entropy: str, tmp_path: Path) -> None:
    toy = quantise(compress(dense_toy()), "words", "one", "image")
    with torch.no_grad():  # steps that no narrow dtype holds
        for module in (toy.module.words, toy.module.one):
            whole = to_grid(module.left, module.left_step)
            module.left_step.mul_(1.0 / 3.0)
            module.left.copy_(from_grid(whole, module.left_step))
    write_artifact(toy, tmp_path / "artifact", entropy=entropy)
    target = compress(dense_toy(seed=9))
    restore(target, tmp_path / "artifact")
    assert_same_state(target, state(toy))
    assert torch.equal(outputs(target), outputs(toy))
    assert isinstance(target.module.image, FormConv)
    write_artifact(compress(dense_toy()), tmp_path / "free")
    restore(toy, tmp_path / "free")
    assert "image.sparse_step" not in toy.module.state_dict()
    assert type(toy.module.image) is nn.Conv2d


def test_negative_zeros_and_subnormals_survive(tmp_path: Path) -> None:
    toy = dense_toy()
    toy.module.up.weight.data.zero_()
    toy.module.up.weight.data[0, :3] = torch.tensor([-0.0, 1e-45, -1e-40])
    write_artifact(toy, tmp_path / "artifact")
    target = dense_toy(seed=9)
    restore(target, tmp_path / "artifact")
    bits = target.module.up.weight.detach().view(torch.int32)
    assert torch.equal(bits, toy.module.up.weight.detach().view(torch.int32))


def test_tensors_get_aligned_memory_of_their_own(artifact: Path) -> None:
    target = dense_toy()
    held = target.module.norm.weight
    kept = held.detach().clone()
    held.data.fill_(7.0)
    restore(target, artifact)
    assert bool((held == 7.0).all())
    assert torch.equal(target.module.norm.weight, kept)
    for tensor in target.module.state_dict().values():
        assert tensor.data_ptr() % 64 == 0
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    before = state(target)
    (artifact / "weights.safetensors").write_bytes(b"")  # nothing is left mapped to the file
    assert_same_state(target, before)


def test_frozen_and_training_are_kept(artifact: Path) -> None:
    target = dense_toy()
    target.module.train()
    target.module.requires_grad_(False)
    target.module.norm.requires_grad_(True)
    restore(target, artifact)
    trainable = [name for name, parameter in target.module.named_parameters() if parameter.requires_grad]
    assert trainable == ["norm.weight", "norm.bias"]
    assert all(module.training for module in target.module.modules())


def test_a_meta_skeleton_is_filled(artifact: Path, compressed: ToyAdapter) -> None:
    target = ToyAdapter.skeleton(artifact).eval()
    restore(target, artifact)
    assert not any(tensor.is_meta for tensor in target.module.state_dict().values())
    assert torch.equal(outputs(target), outputs(compressed))


def refused(target: ToyAdapter, directory: Path, *reasons: str) -> None:
    """`restore` refuses for all of `reasons`, and the model is what it was, module by module, bit by bit."""
    before, modules = state(target), list(target.module.modules())
    with pytest.raises(UserError) as caught:
        restore(target, directory)
    for reason in reasons:
        assert reason in str(caught.value)
    assert_same_state(target, before)
    assert list(target.module.modules()) == modules


def test_a_model_of_another_width_is_refused(artifact: Path) -> None:
    refused(ToyAdapter(Toy(width=8)), artifact, "unit 'words'", "unit 'image'", "unit 'up'", "(16, 6)", "(16, 8)")


def test_a_tensor_of_another_shape_is_refused(artifact: Path) -> None:
    target = dense_toy()
    target.module.mask = torch.zeros(3)
    refused(target, artifact, "tensor 'mask' is (2,) and the model needs (3,)")


def test_missing_and_extra_tensors_are_named(artifact: Path) -> None:
    target = dense_toy()
    del target.module.logit_scale
    target.module.other = nn.Parameter(torch.zeros(2))
    refused(
        target,
        artifact,
        "tensor 'logit_scale' of the artifact has no place in the model",
        "tensor 'other' of the model is missing from the artifact",
    )


def test_missing_and_extra_units_are_named(artifact: Path) -> None:
    target = dense_toy()
    target.module.extra = target.module.up
    del target.module.up
    refused(target, artifact, "the model's unit 'extra' is not in the artifact")
    target = dense_toy()
    del target.module.up
    refused(target, artifact, "tensor 'up.left' of the artifact has no place in the model")


def test_ties_must_agree(artifact: Path) -> None:
    target = dense_toy()
    target.module.two = nn.Linear(16, 16, bias=False)
    refused(target, artifact, "tensor 'two.left' is tied to one.left in the artifact, to None in the model")
    target = dense_toy()
    target.module.register_buffer("alias", target.module.mask)
    refused(target, artifact, "tensor 'alias' is tied to None in the artifact, to mask in the model")


def test_another_adapters_artifact_is_refused(artifact: Path) -> None:
    target = ModuleAdapter(dense_toy().module)
    with pytest.raises(UserError, match="'toy' and was to be put into 'bare'"):
        restore(target, artifact)


def test_damage_found_late_leaves_the_model_as_it_was(artifact: Path) -> None:
    content = bytearray((artifact / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (artifact / "weights.safetensors").write_bytes(content)
    refused(dense_toy(), artifact, "does not hold the bytes that were written")


def test_a_unit_with_an_obstacle_cannot_be_given_a_structure(artifact: Path) -> None:
    target = dense_toy()
    target.module.words.max_norm = 1.0
    refused(target, artifact, "unit 'words' does not fit the model: an embedding with max_norm rewrites its own rows")


def test_a_kernel_of_another_form_is_refused(tmp_path: Path) -> None:
    def adapter(kernel: tuple[int, int], bias: bool) -> ModuleAdapter:
        return ModuleAdapter(nn.Sequential(nn.Conv2d(2, 3, kernel, bias=bias)))

    write_artifact(adapter((2, 3), bias=True), tmp_path / "artifact")
    with pytest.raises(UserError, match=r"kernel is \(2, 3\) and the model's is \(3, 2\)"):
        restore(adapter((3, 2), bias=False), tmp_path / "artifact")
    manifest = json.loads((tmp_path / "artifact" / "manifest.json").read_text())
    assert manifest["files"] == {}
