"""A model whose weights are read while it runs: the same outputs, nothing held, damage refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy_model import ToyAdapter, compress

from rcc.artifact.on_demand import on_demand
from rcc.artifact.write import write_artifact
from rcc.errors import UserError
from rcc.models.clip import CLIPWrapper


def test_outputs_are_those_of_the_model_that_was_written(clip: CLIPWrapper, tmp_path: Path, digits) -> None:  # type: ignore[no-untyped-def]
    write_artifact(clip, tmp_path / "dense")
    batch = clip.prepare(list(digits.calibration.images[:3]), list(digits.calibration.texts[:3]))
    wanted = clip.outputs(batch)
    for parameter in clip.module.parameters():
        parameter.data.zero_()
    with on_demand(clip, tmp_path / "dense") as dense, torch.no_grad():
        for _ in range(2):
            found = dense.outputs(batch)
            assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_between_calls_layers_hold_no_weights(clip: CLIPWrapper, tmp_path: Path, digits) -> None:  # type: ignore[no-untyped-def]
    write_artifact(clip, tmp_path / "dense")
    batch = clip.prepare(list(digits.calibration.images[:3]), list(digits.calibration.texts[:3]))
    with on_demand(clip, tmp_path / "dense") as dense, torch.no_grad():
        dense.outputs(batch)
        real = [name for name, parameter in dense.module.named_parameters() if not parameter.is_meta]
        # Those of modules that have submodules as well.
        assert real == ["logit_scale", "vision_model.embeddings.class_embedding"]


def test_a_dense_twin_of_a_compressed_model_has_the_dense_structure(dense: ToyAdapter, tmp_path: Path) -> None:
    write_artifact(dense, tmp_path / "dense")
    names = [unit.name for unit in dense.units() if unit.read().left is None]
    small = compress(dense)
    with on_demand(small, tmp_path / "dense") as twin:
        assert [unit.name for unit in twin.units() if unit.read().left is None] == names
    assert any(unit.read().left is not None for unit in small.units())


def test_damage_is_refused(clip: CLIPWrapper, tmp_path: Path) -> None:
    write_artifact(clip, tmp_path / "dense")
    path = tmp_path / "dense" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="does not hold the bytes"), on_demand(clip, tmp_path / "dense"):
        pass
