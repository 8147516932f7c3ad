"""Find models and adapters by name or by import path, imported only when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcc import shipped
from rcc.errors import UserError, unknown
from rcc.models.adapter import Adapter
from rcc.models.auto import AUTO, choose_model
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
    """The model= that loads the checkpoint directory or hub name `path`, see `choose_model`.

    Raises:
        UserError: it cannot be found, or nothing says what it holds.
    """
    return choose_model(path)[0]


def resolved(options: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The options of `model=auto` as those of the model that its path holds, and a sentence that says which; the
    options of every other model as they are, and ''. An option at null is left to the model.

    Raises:
        UserError: what the path holds cannot be told.
    """
    if options.get("name") != AUTO:
        return dict(options), ""
    name, reason = choose_model(options.get("path"))
    given = {key: value for key, value in options.items() if value is not None and key != TARGET}
    return {**given, "name": name, TARGET: shipped.target("model", name)}, reason


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
    given, reason = resolved(options)
    name = given.pop("name")
    kind = loader_class(name, given.pop(TARGET, None))
    model: Adapter = call(f"model '{name}'", kind.load, given, **offered)
    if reason:
        model.notes = (reason, *model.notes)
    return model


def load_skeleton(name: str, path: str | Path | None = None, **options: Any) -> Adapter:
    """The model `name` without weights, for planning: its parameters are on the meta device.

    Args:
        options: `_target_`, the import path of a class that does not ship; for `module`, its `target` and
            `arguments`; other options change no shape.

    Raises:
        UserError: an unknown name, a model of the package with a `path`, or files that cannot be read.
    """
    given, _ = resolved({"name": name, "path": path, **options})
    name, path, options = given.pop("name"), given.pop("path", None), given
    kind = loader_class(name, options.pop(TARGET, None))
    return kind.planned(**({} if path is None else {"path": path}), **options)
