"""Gather the second moments of every layer's inputs, which rounding with feedback needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rcc.layers.model import Batch
from rcc.models.adapter import Adapter


@torch.inference_mode()
def input_moments(model: Adapter, names: Sequence[str], batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Σ x xᵀ (groups, p, p) of the p inputs of each output, over all rows or places, for linear layers and 1-d and 2-d
    convolutions of these names."""
    found: dict[str, Tensor] = {}
    hooks = []
    for name in names:
        layer = model.module.get_submodule(name)

        def gather(layer: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
            rows = rows_of(layer, inputs[0].float())
            moment = rows.transpose(1, 2) @ rows
            found[name] = found[name] + moment if name in found else moment

        hooks.append(layer.register_forward_pre_hook(gather))
    for batch in batches:
        model.outputs(batch)
    for hook in hooks:
        hook.remove()
    return found


def rows_of(layer: nn.Module, inputs: Tensor) -> Tensor:
    """(groups, rows, p): what each output of `layer` is a weighted sum of, at every place of every item."""
    if not isinstance(layer, nn.Conv1d | nn.Conv2d):
        return inputs.reshape(1, -1, inputs.shape[-1])
    padding = layer.padding
    assert not isinstance(padding, str)
    sizes = (layer.kernel_size, layer.dilation, padding, layer.stride)
    if isinstance(layer, nn.Conv1d):  # as an image of one row, which `unfold` takes
        inputs = inputs.unsqueeze(2)
        sizes = tuple((before, *size) for before, size in zip((1, 1, 0, 1), sizes, strict=True))
    patches = nn.functional.unfold(inputs, *sizes)
    items, length, places = patches.shape
    grouped = patches.view(items, layer.groups, length // layer.groups, places)
    return grouped.permute(1, 0, 3, 2).reshape(layer.groups, items * places, -1)
