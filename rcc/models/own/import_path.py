"""Build a user's own network from the import path that the user gave, and fill it from a safetensors file.

Only what the user says is imported. No path is ever taken from an artifact.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from rcc.errors import Problems, UserError, WorkError, listed, nearest
from rcc.limits import expanded
from rcc.models.transformers.checkpoint import PICKLES, check_finite
from rcc.models.wrapped_names import say_stripped, wrapper_prefix


def build(target: str, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """The module that `target`, 'package.module:name', makes when it is called with `arguments`.

    The current directory is looked in last, so that a file in it hides no installed package.

    Raises:
        UserError: `target` is no import path, cannot be imported, fails, or makes no torch.nn.Module.
        WorkError: it ends the program.
    """
    place, _, name = str(target).partition(":")
    if not name or not place or not all(part.isidentifier() for part in (*place.split("."), *name.split("."))):
        raise UserError(
            f"model.target is '{target}'; it must be module:name, as in model.target=my_package.nets:build."
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found: Any = import_module(place)
    except ImportError as error:
        raise UserError(
            f"model.target '{target}' cannot be imported: {error}. Looked in the installed packages and {Path.cwd()}."
        ) from error
    except Exception as error:
        raise UserError(f"importing '{place}' for model.target failed: {_told(error)}") from error
    except SystemExit as error:
        raise _ended(target, error) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise UserError(f"'{place}' has no '{name}'.{nearest(part, vars(found))} model.target is '{target}'.")
        found = getattr(found, part)
    if not callable(found):
        raise UserError(
            f"model.target '{target}' is {_kind(found)}; it must be a class or a function that makes a module."
        )
    try:
        module = found(**(arguments or {}))
    except Exception as error:
        raise UserError(
            f"model.target '{target}' failed with arguments {dict(arguments or {})}: {_told(error)}"
        ) from error
    except SystemExit as error:
        raise _ended(target, error) from error
    if not isinstance(module, nn.Module):
        raise UserError(f"model.target '{target}' made {_kind(module)} and no torch.nn.Module.")
    return module


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
    module put before all names, as DataParallel and torch.compile do, is left away, which is said.

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
                own[name].copy_(file.get_tensor(key))
        if prefix:
            say_stripped(str(path), prefix)
    except (SafetensorError, OSError) as error:
        raise UserError(f"model.path '{path}' cannot be read as safetensors: {_told(error)}") from error
    check_finite(str(path), module)


def _check(path: str, own: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    given = {_place(own[name]) for name in shapes if name in own}
    missing = [name for name in own if name not in shapes and (_place(own[name]) not in given or not own[name].numel())]
    unexpected = shapes.keys() - own.keys()
    problems = Problems()
    problems.check(not missing, f"'{path}' lacks the weights {listed(missing)}; they are not made up.")
    problems.check(not unexpected, f"'{path}' holds weights that the network does not have: {listed(unexpected)}.")
    for name in sorted(shapes.keys() & own.keys()):
        wanted = tuple(own[name].shape)
        problems.check(
            shapes[name] == wanted, f"'{path}': {name} has shape {shapes[name]} and the network needs {wanted}."
        )
    problems.done()


def _place(tensor: torch.Tensor) -> tuple[int, tuple[int, ...]]:
    """The same for tensors that are one in memory."""
    return tensor.data_ptr(), tuple(tensor.shape)


def _no_weights(path: Path) -> str:
    if any(path.match(pattern) for pattern in PICKLES):
        return (
            f"model.path '{path}' is no safetensors file. Only safetensors is read, because a pickle can run code. If"
            " you trust it, load its state dict once and write it with safetensors.torch.save_file(state_dict,"
            " 'weights.safetensors')."
        )
    what = "is a directory" if path.is_dir() else "does not exist" if not path.exists() else "is no safetensors file"
    return (
        f"model.path '{path}' {what}. Give the network's state dict as one file, model.path=weights.safetensors,"
        " written by safetensors.torch.save_model(module, 'weights.safetensors'); or an rcc artifact's directory."
    )


def _ended(target: str, error: SystemExit) -> WorkError:
    return WorkError(
        f"model.target '{target}' ended the program with sys.exit({error.code!r}) instead of making a module. Remove"
        " the call from what is imported or called, for instance into `if __name__ == '__main__':`."
    )


def _kind(value: Any) -> str:
    return f"of type {type(value).__name__}"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
