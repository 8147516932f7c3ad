"""Compute and store the dense model's outputs on the calibration batches, the reference of a compressed one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rcc.errors import WorkError
from rcc.layers.model import Batch, Model
from rcc.layers.modes import evaluating


def dense_outputs(model: Model, batches: Sequence[Batch]) -> list[dict[str, Tensor]]:
    """`model.outputs` on each batch, in evaluation mode, without gradients, in memory of their own."""
    with torch.no_grad(), evaluating(model.module):
        return [
            {name: output.detach().clone(memory_format=torch.contiguous_format) for name, output in outputs.items()}
            for outputs in (model.outputs(batch) for batch in batches)
        ]


def output_distance(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """Mean over the named outputs of 1 - cosine to the target along the last dimension, in [0, 2].

    An output without a vector per item, (batch,) or a scalar, is taken as one vector. Vectors that are zero in the
    target, as at the padding of texts, have no direction to come back to and do not count.

    Raises:
        WorkError: the model's outputs are not those the targets were made of.
    """
    if set(outputs) != set(targets) or not targets:
        raise WorkError(
            f"the model puts out {sorted(outputs)} and the targets hold {sorted(targets)}: "
            "the dense outputs were taken from another model."
        )
    losses = []
    for name, target in targets.items():
        output, target = outputs[name], target.to(outputs[name].device, outputs[name].dtype)
        if output.shape != target.shape:
            found, wanted = tuple(output.shape), tuple(target.shape)
            raise WorkError(f"output '{name}' has shape {found} and its target {wanted}: another batch's?")
        if output.dim() < 2:
            output, target = output.reshape(1, -1), target.reshape(1, -1)
        distances = 1 - torch.cosine_similarity(output, target, dim=-1)
        counts = (target != 0).any(-1)
        losses.append((distances[counts] if bool(counts.any()) else distances).mean())
    return torch.stack(losses).mean()


def write_targets(path: Path | str, targets: Sequence[Mapping[str, Tensor]]) -> None:
    """Write `targets` as safetensors, in one step: a killed write leaves no file of that name."""
    path = Path(path)
    tensors = {
        f"{index}/{name}": output.detach().cpu().contiguous()
        for index, outputs in enumerate(targets)
        for name, output in outputs.items()
    }
    partial = path.with_name(f".{path.name}.partial")
    save_file(tensors, partial, metadata={"batches": str(len(targets))})
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def read_targets(path: Path | str) -> list[dict[str, Tensor]]:
    """Read what `write_targets` was given, onto the CPU, bit for bit.

    Raises:
        WorkError: the file is missing, damaged, or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            targets: list[dict[str, Tensor]] = [{} for _ in range(int(file.metadata()["batches"]))]
            for key in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                index, _, name = key.partition("/")
                targets[int(index)][name] = file.get_tensor(key)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        raise WorkError(
            f"the dense model's outputs cannot be read from {path}: {type(error).__name__}: {error}. "
            "Delete the file: they are computed again."
        ) from error
    return targets
