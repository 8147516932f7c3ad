"""Hold a layer that is a whole model, so that it has a name."""

from __future__ import annotations

from typing import Any

from torch import nn


class SingleLayer(nn.Module):
    """A model of one layer, under the name 'layer': reports, artifacts and patterns tell layers by their names, and a
    model by itself has none. The layer is the user's own object."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer(*args, **kwargs)


def class_name(module: nn.Module) -> str:
    """The name of the class of the user's own module."""
    return type(module.layer if isinstance(module, SingleLayer) else module).__name__
