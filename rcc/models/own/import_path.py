"""Build a user's own network from the import path that the user gave, and fill it from a safetensors file.

Only what the user says is imported. No path is ever taken from an artifact.
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from rcc.errors import Problems, UserError, WorkError, listed, nearest
from rcc.limits import expanded
from rcc.models.transformers.checkpoint import PICKLES, check_finite
from rcc.models.wrapped_names import say_stripped, wrapper_prefix
from rcc.plugins import OPEN_ENDED

Arguments = Mapping[str, Any] | Sequence[Any] | None
OLD_BUFFERS = ("num_batches_tracked", "position_ids")
"""Buffers that a network counts or computes itself: files of other versions may lack them, or have them left over."""
MOST_MISFITS = 8
"""Weights of other shapes that a message names one by one."""

log = logging.getLogger(__name__)


def build(target: str, arguments: Arguments = None) -> nn.Module:
    """The module that `target`, 'package.module:name' or 'package.module:Class.method', makes when it is called.

    The current directory is looked in last, so that a file in it hides no installed package.

    Args:
        arguments: what it is called with: a mapping by name, or a list in order.

    Raises:
        UserError: `target` is no import path, cannot be imported, lacks arguments, fails, or makes no torch.nn.Module.
        WorkError: it ends the program.
    """
    factory = _attribute(target, *_parts(target))
    values = [] if arguments is None or isinstance(arguments, Mapping) else list(arguments)
    named = dict(arguments) if isinstance(arguments, Mapping) else {}
    _check_arguments(target, factory, values, named)
    with _ending(target):
        try:
            module = factory(*values, **named)
        except Exception as error:
            raise UserError(
                f"model.target '{target}' failed with arguments {values or named}: {_told(error)}"
            ) from error
    if not isinstance(module, nn.Module):
        raise UserError(f"model.target '{target}' made {_kind(module)} and no torch.nn.Module.")
    return module


def _parts(target: str) -> tuple[str, list[str]]:
    """The module of an import path, and the attributes after the colon."""
    place, _, name = str(target).partition(":")
    if not name or not place or not all(part.isidentifier() for part in (*place.split("."), *name.split("."))):
        raise UserError(
            f"model.target is '{target}'; it must be module:name, as in model.target=my_package.nets:build or"
            " model.target=my_package:Network.from_name."
        )
    return place, name.split(".")


def _attribute(target: str, place: str, names: Sequence[str]) -> Callable[..., Any]:
    """What the attributes `names` of the module `place` lead to, which is imported."""
    found: Any = _imported(target, place)
    where = place
    for name in names:
        if not hasattr(found, name):
            raise UserError(f"'{where}' has no '{name}'.{nearest(name, vars(found))} model.target is '{target}'.")
        found, where = getattr(found, name), f"{where}{':' if where == place else '.'}{name}"
    if not callable(found):
        raise UserError(
            f"model.target '{target}' is {_kind(found)}; it must be a class or a function that makes a module."
        )
    callee: Callable[..., Any] = found
    return callee


def _imported(target: str, place: str) -> Any:
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    with _ending(target):
        try:
            return import_module(place)
        except ImportError as error:
            raise UserError(
                f"model.target '{target}' cannot be imported: {error}. Looked in the installed packages and"
                f" {Path.cwd()}."
            ) from error
        except Exception as error:
            raise UserError(f"importing '{place}' for model.target failed: {_told(error)}") from error


def _check_arguments(target: str, factory: Callable[..., Any], values: list[Any], named: dict[str, Any]) -> None:
    """Refuse arguments that the target cannot be called with, before it is."""
    try:
        wanted = signature(factory)
    except (TypeError, ValueError):  # of a class made in C; the call itself will tell
        return
    try:
        wanted.bind(*values, **named)
    except TypeError as error:
        takes = ", ".join(str(each.replace(annotation=each.empty)) for each in wanted.parameters.values())
        needs = [
            each.name
            for each in list(wanted.parameters.values())[len(values) :]
            if each.default is each.empty and each.kind not in OPEN_ENDED and each.name not in named
        ]
        lacking = (
            f" It needs {', '.join(needs)}: give model.arguments={{{', '.join(f'{name}: …' for name in needs)}}}."
            if needs
            else ""
        )
        raise UserError(
            f"model.target '{target}' cannot be called with arguments {values or named}: {error}. It takes"
            f" ({takes}).{lacking}"
        ) from error


def emptied(module: nn.Module) -> nn.Module:
    """`module` with its parameters on the meta device, shared ones still shared, and its buffers as they are."""
    meta: dict[nn.Parameter, nn.Parameter] = {}
    for each in module.modules():
        for name, parameter in each._parameters.items():
            if parameter is not None:
                if parameter not in meta:
                    meta[parameter] = nn.Parameter(parameter.data.to("meta"), requires_grad=parameter.requires_grad)
                each._parameters[name] = meta[parameter]
    return module


@torch.no_grad()
def fill(module: nn.Module, path: str | Path) -> None:
    """Put the tensors of a safetensors file into `module`, all of them and nothing else.

    Tensors that the module shares may be in the file once, under any of their names. A prefix that a wrapper of the
    module put before all names, as DataParallel and torch.compile do, is left away, and `OLD_BUFFERS` may be missing or
    left over; both are said.

    Raises:
        UserError: the file is missing or no safetensors; tensors are missing, left over, of another shape, or hold a
            NaN or an infinity.
    """
    path = expanded("model.path", path)
    if not path.is_file() or path.match("*.index.json") or any(path.match(pattern) for pattern in PICKLES):
        raise UserError(_no_weights(path))
    own = module.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            stored = set(file.keys())
            prefix = wrapper_prefix(stored, own.keys())
            names = {key.removeprefix(prefix): key for key in stored}
            shapes = {name: tuple(file.get_slice(key).get_shape()) for name, key in names.items()}
            _check(str(path), own, shapes)
            for name, key in sorted(names.items()):
                if name in own:
                    own[name].copy_(file.get_tensor(key))
        _say_old_buffers(str(path), own.keys(), names.keys())
        if prefix:
            say_stripped(str(path), prefix)
    except (SafetensorError, OSError) as error:
        raise UserError(f"model.path '{path}' cannot be read as safetensors: {_told(error)}") from error
    check_finite(str(path), module)


def _check(path: str, own: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    given = {_place(own[name]) for name in shapes if name in own}
    missing = [name for name in own if name not in shapes and (_place(own[name]) not in given or not own[name].numel())]
    missing, unexpected = (
        [name for name in names if not _is_old(name)] for names in (missing, shapes.keys() - own.keys())
    )
    problems = Problems()
    if shapes and not shapes.keys() & own.keys():
        problems.check(
            False,
            f"'{path}' holds the weights of another network: it has {listed(shapes, 3)}, and the network"
            f" {listed(own, 3)}; no name is in both.",
        )
        problems.done()
    problems.check(not missing, f"'{path}' lacks the weights {listed(missing)}; they are not made up.")
    problems.check(not unexpected, f"'{path}' holds weights that the network does not have: {listed(unexpected)}.")
    misfits = [name for name in own if name in shapes and shapes[name] != tuple(own[name].shape)]
    for name in misfits[:MOST_MISFITS]:
        problems.check(
            False, f"'{path}': {name} has shape {shapes[name]} and the network needs {tuple(own[name].shape)}."
        )
    more = len(misfits) - MOST_MISFITS
    problems.check(more <= 0, f"'{path}': {more} more of {len(own)} weights have other shapes: is it another network?")
    problems.done()


def _is_old(name: str) -> bool:
    return name.rpartition(".")[2] in OLD_BUFFERS


def _say_old_buffers(path: str, own: Set[str], stored: Set[str]) -> None:
    """Say which buffers of other versions were passed over, or kept as the network makes them."""
    for names, what in ((stored - own, "are passed over"), (own - stored, "are as the network makes them")):
        if old := [name for name in names if _is_old(name)]:
            log.warning("'%s': the buffers %s %s.", path, listed(old, 3), what)


def _place(tensor: torch.Tensor) -> tuple[int, tuple[int, ...]]:
    """The same for tensors that are one in memory."""
    return tensor.data_ptr(), tuple(tensor.shape)


def _no_weights(path: Path) -> str:
    if any(path.match(pattern) for pattern in PICKLES):
        loaded = f'torch.load({json.dumps(str(path))}, map_location="cpu", weights_only=True)'
        # What a pickle holds may share memory or lie in another order, which safetensors does not write.
        tensors = f"{{name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in {loaded}.items()}}"
        written = f"save_file({tensors}, {json.dumps(path.stem + '.safetensors')})"
        convert = f"import torch; from safetensors.torch import save_file; {written}"
        return (
            f"model.path '{path}' is no safetensors file. Only safetensors is read, because a pickle can run code. If"
            f" you trust it, convert its state dict once: python -c {shlex.quote(convert)}"
        )
    what = "is a directory" if path.is_dir() else "does not exist" if not path.exists() else "is no safetensors file"
    return (
        f"model.path '{path}' {what}. Give the network's state dict as one file, model.path=weights.safetensors,"
        " written by safetensors.torch.save_model(module, 'weights.safetensors'); or an rcc artifact's directory."
    )


@contextmanager
def _ending(target: str) -> Iterator[None]:
    """Make an error of a `sys.exit` inside."""
    try:
        yield
    except SystemExit as error:
        raise WorkError(
            f"model.target '{target}' ended the program with sys.exit({error.code!r}) instead of making a module."
            " Remove the call from what is imported or called, for instance into `if __name__ == '__main__':`."
        ) from error


def _kind(value: Any) -> str:
    return f"of type {type(value).__name__}"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
