"""Models and adapters by name, imported only when asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from rcc.by_name import call, find
from rcc.errors import UserError, unknown
from rcc.models.adapter import Adapter

ADAPTERS = {
    "blip": "rcc.models.blip:BLIPWrapper",
    "blip_retrieval": "rcc.models.blip_retrieval:BLIPRetrievalWrapper",
    "clip": "rcc.models.clip:CLIPWrapper",
    "clip_vision": "rcc.models.clip_vision:CLIPVisionWrapper",
    "module": "rcc.models.module:ModuleAdapter",
    "siglip": "rcc.models.siglip:SiglipWrapper",
    "vit": "rcc.models.vit:ViTWrapper",
}
EMBEDDED = {"clip_tiny": "clip"}
LOADABLE = (*(name for name in ADAPTERS if name != "module"), *EMBEDDED)


def adapter_class(name: str) -> type[Adapter]:
    """The adapter called `name` in an artifact's manifest.

    Raises:
        UserError: no adapter of that name.
    """
    found: type[Adapter] = find("adapter", name, ADAPTERS)
    return found


def load_model(name: str, **options: Any) -> Adapter:
    """The model `name` with its weights: `clip` takes `path`, `device` and `dtype`; `clip_tiny`, which ships
    with the package, takes `device` and `dtype`.

    Raises:
        UserError: an unknown name or option, or a checkpoint that cannot be loaded.
    """
    if name not in LOADABLE:
        raise UserError(unknown("model", name, LOADABLE))
    load: Callable[..., Adapter] = getattr(adapter_class(EMBEDDED.get(name, name)), "load")  # noqa: B009
    if name in EMBEDDED:
        load = partial(load, embedded(name))
    model: Adapter = call("model", name, load, options)
    return model


def load_skeleton(name: str, path: str | Path | None = None) -> Adapter:
    """The model `name` without weights, for planning: its parameters are on the meta device.

    Raises:
        UserError: an unknown name, a model of the package with a `path`, or files that cannot be read.
    """
    if name not in LOADABLE:
        raise UserError(unknown("model", name, LOADABLE))
    if (name in EMBEDDED) == (path is not None):
        raise UserError(
            f"model '{name}' ships with the package and takes no path; use model=clip model.path={path}."
            if name in EMBEDDED
            else f"model '{name}' needs a path: a checkpoint directory or a hub name, as model.path=<directory>."
        )
    if path is None:
        return adapter_class(EMBEDDED[name]).skeleton(embedded(name))
    return adapter_class(name).skeleton(Path(path))


def embedded(name: str = "clip_tiny") -> Path:
    """The directory of a checkpoint that ships with the package.

    Raises:
        UserError: no checkpoint of that name.
    """
    if name not in EMBEDDED:
        raise UserError(unknown("embedded checkpoint", name, EMBEDDED))
    return Path(str(resources.files("rcc") / "assets" / name))
