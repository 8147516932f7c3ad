"""Run a model whose weights are read from an artifact layer by layer, while it runs, and not kept.

The dense model beside the compressed one costs no second copy in memory this way: a layer's tensors are read
from the file when its forward begins and let go when it ends.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rcc.artifact.contents import named_tensors
from rcc.artifact.manifest import read_manifest
from rcc.artifact.restore import rebuild
from rcc.artifact.verify import StoredWeights, stored_weights
from rcc.layers.attention import OpenAttention
from rcc.layers.copying import deep_copy
from rcc.layers.redirect import standing_in
from rcc.models.adapter import Adapter


@contextmanager
def on_demand(like: Adapter, directory: Path | str, verify: bool = True) -> Iterator[Adapter]:
    """The model of the artifact in `directory`, of the same architecture as `like`, in evaluation mode.

    Its `outputs` and `loss` may be called inside the context and nothing else: its layers' parameters are on the meta
    device between calls. They run this model also where they are functions that close over the network of `like`, see
    `standing_in`. `like` stays as it is, and may be compressed meanwhile. Modules that hold parameters beside
    submodules, as nn.MultiheadAttention does, keep theirs.

    Raises:
        UserError: the directory is no artifact of this architecture, or it is damaged.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    twin = copy.copy(like)
    twin.module = without_weights(like.module)
    with stored_weights(directory, manifest) as weights:
        if verify:
            weights.verify()
        rebuild(twin, manifest, directory)
        _Reader(twin.module, weights, like.device).attach()
        with standing_in(twin.eval(), like.module) as dense:
            yield dense


def without_weights(module: nn.Module) -> nn.Module:
    """A copy of `module` whose parameters are on the meta device; buffers are copied."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.to("meta"), requires_grad=False) for parameter in module.parameters()
    }
    return deep_copy(module, memo)


class _Reader:
    """Fills the modules of one model from one file: leaves while they run, the others once."""

    def __init__(self, root: nn.Module, weights: StoredWeights, device: torch.device) -> None:
        self.root, self.weights, self.device = root, weights, device
        _, self.tied = named_tensors(root)

    def attach(self) -> None:
        for prefix, module in self.root.named_modules():
            names = {key: f"{prefix}.{key}" if prefix else key for key, value in _own(module)}
            if not names:
                continue
            parent = self.root.get_submodule(prefix.rpartition(".")[0])
            # nn.MultiheadAttention reads its output projection's weight and never calls it; opened, it does.
            called = not isinstance(parent, nn.MultiheadAttention) or isinstance(parent, OpenAttention)
            if next(module.children(), None) is None and called:
                # First of all hooks: one of the model's own may compute the weight from what is filled in.
                fill = partial(self._fill_at_call, names)
                module.register_forward_pre_hook(fill, prepend=True)
                module.register_forward_hook(lambda module, _, __: _empty(module), always_call=True)
            else:
                self._fill(module, names)

    def _fill_at_call(self, names: dict[str, str], module: nn.Module, _: Any) -> None:
        self._fill(module, names)

    def _fill(self, module: nn.Module, names: dict[str, str]) -> None:
        for key, name in names.items():
            tensor = self.weights.read(self.tied.get(name, name)).to(self.device)
            if key in module._parameters:
                tensor = nn.Parameter(tensor, requires_grad=False)
            setattr(module, key, tensor)


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters and persistent buffers that are the module's own, by name."""
    buffers = ((key, value) for key, value in module._buffers.items() if key not in module._non_persistent_buffers_set)
    return [(key, value) for key, value in (*module._parameters.items(), *buffers) if value is not None]


def _empty(module: nn.Module) -> None:
    for key, parameter in module._parameters.items():
        if parameter is not None:
            setattr(module, key, nn.Parameter(parameter.to("meta"), requires_grad=False))
