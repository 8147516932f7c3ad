"""Find models and adapters by name or by import path, imported only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcc import shipped
from rcc.errors import UserError, unknown
from rcc.models.adapter import Adapter
from rcc.models.transformers.architectures import ARCHITECTURES
from rcc.plugins import TARGET, call, locate

BARE = "bare"
"""The name in manifests of a module that was compressed from Python: no choice of `model=` makes one."""


def loader_class(name: str, target: str | None = None) -> type[Adapter]:
    """The class that loads `model=<name>`: that of the import path `target`, else the shipped one of that name.

    Raises:
        UserError: no model of that name, or a path that leads to no adapter.
    """
    found: type[Adapter] = locate(f"model={name}", target or shipped.target("model", name), Adapter)
    return found


def adapter_class(name: str) -> type[Adapter]:
    """The shipped adapter called `name` in an artifact's manifest, whose import path is never taken from there.

    Raises:
        UserError: no adapter of that name.
    """
    if name == BARE:
        from rcc.models.own.module import ModuleAdapter

        return ModuleAdapter
    choices = shipped.choices(shipped.config_dir(), "model")
    if name in choices and (found := loader_class(name)).name == name:
        return found
    names = [BARE, *(choice for choice in choices if loader_class(choice).name == choice)]
    raise UserError(
        f"{unknown('adapter', name, names)} One of your own is given by its class: from Python as"
        " rcc.load(directory, adapter=…), on the command line as the model= that names it."
    )


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
    return load_described({"name": name, **options})


def load_described(options: Mapping[str, Any], **offered: Any) -> Adapter:
    """The model that a config describes: its `name`, the `_target_` of its class, and the options of its `load`.

    Raises:
        UserError: as `load_model`.
    """
    given = dict(options)
    name = given.pop("name")
    kind = loader_class(name, given.pop(TARGET, None))
    model: Adapter = call(f"model '{name}'", kind.load, given, **offered)
    return model


def load_skeleton(name: str, path: str | Path | None = None, **options: Any) -> Adapter:
    """The model `name` without weights, for planning: its parameters are on the meta device.

    Args:
        options: `_target_`, the import path of a class that does not ship; for `module`, its `target` and
            `arguments`; other options change no shape.

    Raises:
        UserError: an unknown name, a model of the package with a `path`, or files that cannot be read.
    """
    kind = loader_class(name, options.pop(TARGET, None))
    return kind.planned(**({} if path is None else {"path": path}), **options)
