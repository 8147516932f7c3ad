"""Load a model from a checkpoint, the hub, the package, the user's own code, or an earlier run's artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from rcc import shipped
from rcc.artifact.load import load
from rcc.artifact.manifest import Manifest, is_artifact, read_manifest
from rcc.artifact.restore import rebuild
from rcc.artifact.verify import files_of
from rcc.errors import UserError
from rcc.limits import expanded
from rcc.models.adapter import Adapter
from rcc.models.auto import AUTO
from rcc.models.block_marks import mark_blocks
from rcc.models.device import pick_device
from rcc.models.own.network import NetworkAdapter
from rcc.models.registry import BARE, adapter_class, load_described, load_skeleton, loader_class, resolved
from rcc.plugins import TARGET

Options = Mapping[str, Any]
"""The config's `model`: its name, the import path of its class, and its options, null where not said."""


def described(options: Options) -> tuple[Options, str]:
    """The options of `model=auto` as those of the model that `model.path` holds, a checkpoint or an artifact, and a
    sentence that says which; of every other model as they are, and ''.

    Raises:
        UserError: what the path holds cannot be told, or is a network whose code only the user has.
    """
    if options["name"] != AUTO or options.get("path") is None:
        return options, ""
    path = expanded("model.path", str(options["path"]))
    if not is_artifact(path):
        return resolved(options)
    name = read_manifest(path).adapter
    if adapter_class(name).name != name or issubclass(adapter_class(name), NetworkAdapter) or name == BARE:
        raise UserError(
            f"model.path '{path}' is an artifact of the model '{name}', whose code only you have: name its model=, as"
            f" model=module model.target=<module:name> model.path={path}."
        )
    reason = f"model=auto takes model={name}: '{path}' is its artifact."
    return {**_given(options), "name": name, TARGET: shipped.target("model", name)}, reason


def load_source(options: Options, device: str) -> Adapter:
    """The model of `model=`, on `device`. Its `model.path` may be an artifact, which is loaded as it is:
    compressed, to be compressed further.

    Raises:
        UserError: what the loaders refuse, or an artifact of another kind of model.
    """
    given = _given(options)
    artifact = _artifact(given)
    if artifact is None:
        return load_described(given, device=device)
    model = load_artifact(artifact, options, given.get("dtype", "float32"), device)
    if given.get("gradient_checkpointing"):
        mark_blocks(model.module, f"model '{model.name}'")
    return model


def load_artifact(directory: Path | str, options: Options, dtype: str = "float32", device: str = "cpu") -> Adapter:
    """The model of an artifact, verified, on `device`. The code of a network of the user's own comes from the
    `model.target` of the config, never from the artifact.

    Raises:
        UserError: it is no artifact, is damaged, or is of another kind of model than `model=` names where that decides.
    """
    manifest = read_manifest(Path(directory))
    kind = _loader(options)
    own = kind if kind.name == manifest.adapter else None
    model = load(directory, dtype, skeleton=_own_network(manifest, options), adapter=own)
    model.module.to(pick_device(device))
    return model


def plan_source(options: Options) -> Adapter:
    """The model of `model=` without weights, for planning, with the structure of the artifact where it is one.

    Raises:
        UserError: as `load_source`.
    """
    given = _given(options)
    artifact = _artifact(given)
    name, path = given.pop("name"), given.pop("path", None)
    if artifact is None or issubclass(_loader(options), NetworkAdapter):
        skeleton = load_skeleton(name, path, **given)
    else:
        with files_of(artifact, read_manifest(artifact)) as files:
            skeleton = _loader(options).skeleton(files)
    if artifact is not None:
        rebuild(skeleton, read_manifest(artifact), artifact)
    return skeleton


def _given(options: Options) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _artifact(options: Options) -> Path | None:
    """The artifact that `model.path` is, of the kind of `model=`; None where it is none.

    Raises:
        UserError: it is an artifact of another kind.
    """
    path = expanded("model.path", str(options.get("path", "")))
    if "path" not in options or not is_artifact(path):
        return None
    found, name = read_manifest(path).adapter, options["name"]
    if found != _loader(options).name:
        raise UserError(
            f"model.path '{path}' is an artifact of the model '{found}' and model={name} was asked for;"
            f" use model={found} model.path={path}."
        )
    return path


def _own_network(manifest: Manifest, options: Options) -> nn.Module | None:
    """The network that the user's config builds, for an artifact of one; None for all others, or if none is said."""
    own = manifest.adapter == NetworkAdapter.name and issubclass(_loader(options), NetworkAdapter)
    if not own or options.get("target") is None:
        return None
    return NetworkAdapter.planned(options["target"], options.get("arguments")).module


def _loader(options: Options) -> type[Adapter]:
    return loader_class(options["name"], options.get(TARGET))
