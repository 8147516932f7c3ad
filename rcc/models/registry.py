"""Find models and adapters by name, imported only when asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from rcc.by_name import call, find
from rcc.errors import UserError, unknown
from rcc.models.adapter import Adapter
from rcc.models.transformers.architectures import ARCHITECTURES

ADAPTERS = {
    "bare": "rcc.models.own.module:ModuleAdapter",
    "blip": "rcc.models.transformers.blip:BLIPWrapper",
    "blip_retrieval": "rcc.models.transformers.blip_retrieval:BLIPRetrievalWrapper",
    "clip": "rcc.models.transformers.clip:CLIPWrapper",
    "clip_vision": "rcc.models.transformers.clip_vision:CLIPVisionWrapper",
    "module": "rcc.models.own.network:NetworkAdapter",
    "siglip": "rcc.models.transformers.siglip:SiglipWrapper",
    "vit": "rcc.models.transformers.vit:ViTWrapper",
}
"""The classes behind the names that artifacts carry."""
EMBEDDED = {"clip_tiny": "clip"}
LOADABLE = (*(name for name in ADAPTERS if name != "bare"), *EMBEDDED)
"""What `model=` may name; a bare module comes from Python alone."""


def adapter_class(name: str) -> type[Adapter]:
    """The adapter called `name` in an artifact's manifest.

    Raises:
        UserError: no adapter of that name.
    """
    found: type[Adapter] = find("adapter", name, ADAPTERS)
    return found


def adapter_for(path: str | Path) -> str:
    """The model= that loads the checkpoint directory or hub name `path`, by the `architectures` of its config.json.

    Raises:
        UserError: it cannot be found, or no adapter loads what it holds.
    """
    from rcc.models.transformers.checkpoint import architectures_of, locate  # late: it imports transformers

    where, local = locate(path, weights=False)
    found = architectures_of(where, local)
    if len(found) == 1 and found[0] in ARCHITECTURES:
        return ARCHITECTURES[found[0]]
    raise UserError(
        f"'{path}' holds {', '.join(found) or 'no architecture'}, which no adapter loads. Adapters exist for"
        f" {', '.join(sorted(ARCHITECTURES))}; any other network goes by model=module model.target=<module:name>."
    )


def load_model(name: str, **options: Any) -> Adapter:
    """The model `name` with its weights.

    All take `device` and `dtype`. Those of transformers take `path`, a checkpoint directory or a hub name, and
    `gradient_checkpointing`; `clip_tiny`, which ships with the package, only the latter; `module` what
    `NetworkAdapter.load` takes.

    Raises:
        UserError: an unknown name or option, or a checkpoint that cannot be loaded.
    """
    if name not in LOADABLE:
        raise UserError(unknown("model", name, LOADABLE))
    load: Callable[..., Adapter] = getattr(_loader(name), "load")  # noqa: B009
    if name in EMBEDDED:
        load = partial(load, embedded(name))
    model: Adapter = call("model", name, load, options)
    return model


def load_skeleton(name: str, path: str | Path | None = None, **options: Any) -> Adapter:
    """The model `name` without weights, for planning: its parameters are on the meta device.

    Args:
        options: for `module`, its `target` and `arguments`; other options change no shape.

    Raises:
        UserError: an unknown name, a model of the package with a `path`, or files that cannot be read.
    """
    if name not in LOADABLE:
        raise UserError(unknown("model", name, LOADABLE))
    if name == "module":
        planned: Adapter = getattr(_loader(name), "planned")(**options)  # noqa: B009
        return planned
    if (name in EMBEDDED) == (path is not None):
        raise UserError(
            f"model '{name}' ships with the package and takes no path; use model=clip model.path={path}."
            if name in EMBEDDED
            else f"model '{name}' needs a path: a checkpoint directory or a hub name, as model.path=<directory>."
        )
    if path is None:
        return adapter_class(EMBEDDED[name]).skeleton(embedded(name))
    return adapter_class(name).skeleton(Path(path))


def _loader(name: str) -> Any:
    return find("model", name, {**ADAPTERS, **{key: ADAPTERS[of] for key, of in EMBEDDED.items()}})


def embedded(name: str = "clip_tiny") -> Path:
    """The directory of a checkpoint that ships with the package.

    Raises:
        UserError: no checkpoint of that name.
    """
    if name not in EMBEDDED:
        raise UserError(unknown("embedded checkpoint", name, EMBEDDED))
    return Path(str(resources.files("rcc") / "assets" / name))
