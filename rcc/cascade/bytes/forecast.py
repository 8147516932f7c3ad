"""Forecast the bytes of an artifact, as if the stages still to come rounded the weights as they are now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch

from rcc.artifact.contents import named_tensors, parts_of, steps_of
from rcc.artifact.entries import Matrix
from rcc.artifact.packing import Contents, pack
from rcc.layers.form import MATRICES, STEPS
from rcc.models.adapter import Adapter
from rcc.stages.base import Stage


@dataclass(frozen=True)
class Forecast:
    """Bytes of the units' matrices, those of all other tensors, and what the manifest would say of both."""

    matrices: int
    rest: int
    contents: Contents

    def whole_of(self, units: Iterable[str]) -> tuple[int, int]:
        """Bytes of the matrices of these units that are stored as whole numbers, and how many values of them are not
        zero."""
        chosen, nbytes, values = set(units), 0, 0
        for name, entry in self.contents.tensors.items():
            if isinstance(entry, Matrix) and entry.stepped and name.rpartition(".")[0] in chosen:
                nbytes += sum(entry.lengths)
                values += entry.nonzeros
        return nbytes, values


@torch.no_grad()
def forecast(
    model: Adapter, later: Sequence[tuple[Stage, Collection[str]]], dtype: torch.dtype, entropy: str
) -> Forecast:
    """Pack every tensor of the model as the artifact would, one unit in memory at a time; nothing is written.

    Without later stages the sum is exact: that of the data of `weights.safetensors`.

    Args:
        later: the stages still to come, each with the names of the units it takes, see `Stage.foresee`.
    """
    tensors, _ = named_tensors(model.module)
    steps = steps_of(model.module)
    contents, matrices = Contents(), set()
    for unit in model.units():
        if unit.kind == "norm":
            continue
        form = now = unit.read()
        for stage, chosen in later:
            if unit.name in chosen:
                form = stage.foresee(unit, form, dtype)
        held = [f"{unit.name}.{part}" for part in parts_of(unit) if part != "bias"]
        if form is not now:
            for name in held:
                tensors.pop(name, None)
            parts = {part: getattr(form, part) for part in (*MATRICES, "scale", *STEPS)}
            own = {f"{unit.name}.{part}": tensor for part, tensor in parts.items() if tensor is not None}
            held = list(own)
            _packed(own, {name: f"{name}_step" for name in own if f"{name}_step" in own}, dtype, entropy, contents)
            # The values of all vectors lie together in one stream: those of this unit are packed with the others below.
            tensors |= {name: tensor for name, tensor in own.items() if tensor.dim() < 2}
        matrices.update(held)
    for stage, _ in later:
        tensors = {name: stage.foresee_vector(name, tensor, dtype) for name, tensor in tensors.items()}
    _packed(tensors, {name: step for name, step in steps.items() if name in tensors}, dtype, entropy, contents)
    lengths = {name: sum(entry.lengths) for name, entry in contents.tensors.items() if isinstance(entry, Matrix)}
    weights = sum(length for name, length in lengths.items() if name in matrices)
    vectors = sum(sum(stream.lengths) for stream in contents.streams.values())
    return Forecast(weights, sum(lengths.values()) - weights + vectors, contents)


def _packed(
    tensors: dict[str, torch.Tensor], steps: dict[str, str], dtype: torch.dtype, entropy: str, contents: Contents
) -> None:
    for _ in pack(tensors, steps, dtype, entropy, contents):
        pass
