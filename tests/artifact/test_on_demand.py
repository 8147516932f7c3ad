"""A model whose weights are read while it runs: the same outputs, nothing held, damage refused."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from toys.adapters import ToyAdapter, compress

from rcc.artifact.on_demand import on_demand
from rcc.artifact.write import write_artifact
from rcc.calibration.layer_fits import layer_fits
from rcc.errors import UserError
from rcc.models.transformers.clip import CLIPWrapper


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


def test_layers_are_summed_beside_it_as_beside_a_copy_in_memory(clip: CLIPWrapper, tmp_path: Path, digits) -> None:  # type: ignore[no-untyped-def]
    write_artifact(clip, tmp_path / "dense")
    splits = (digits.calibration.subset(range(start, start + 3)) for start in (0, 3))
    batches = [clip.prepare(list(split.images[0:3]), split.texts) for split in splits]
    twin = copy.copy(clip)
    twin.module = copy.deepcopy(clip.module)
    units = [unit for unit in clip.units() if "layers.0" in unit.name]
    with on_demand(clip, tmp_path / "dense") as dense:
        read = [(fit.unit.name, fit.covariance, fit.mean) for fit in layer_fits(clip, dense, units, batches)]
    copied = [(fit.unit.name, fit.covariance, fit.mean) for fit in layer_fits(clip, twin, units, batches)]
    assert [name for name, _, _ in read] == [name for name, _, _ in copied]
    assert len(read) == 12
    for (_, covariance, mean), (_, wanted, wanted_mean) in zip(read, copied, strict=True):
        assert torch.equal(covariance, wanted)
        assert torch.equal(mean, wanted_mean)


def test_reading_maps_nothing_into_memory(dense: ToyAdapter, tmp_path: Path) -> None:
    write_artifact(dense, tmp_path / "dense")
    with on_demand(dense, tmp_path / "dense"):
        maps = Path("/proc/self/maps")
        assert not maps.exists() or str(tmp_path) not in maps.read_text()
