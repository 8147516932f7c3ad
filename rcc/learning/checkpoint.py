"""Write and read the checkpoint of a training: safetensors files, each whole or absent, without pickle.

`last.safetensors` holds the tensors of the model, of the optimiser's state and of the moving average, each under a
prefix; all else (steps, random generators, options) is JSON in its header. `best-<epoch>.safetensors` are the weights
of the best epoch under their own names. The best is written first and what it replaces removed last, so that a kill at
any instant leaves a `last` with its best.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from rcc.atomic import clean_leftovers, foreign_errors, replaced
from rcc.errors import Problems, UserError, listed
from rcc.learning.optimisers import Optimisers
from rcc.limits import regular_file

LAST, BEST = "last.safetensors", "best-{}.safetensors"
STATE = "state"
FORMAT = 1
KEPT: dict[str, tuple[set[str], ...]] = {
    "AdamW": ({"step", "exp_avg", "exp_avg_sq"},),
    "SGD": ({"momentum_buffer"},),
    "Muon": ({"momentum_buffer"},),
    "Adafactor": ({"step", "row_var", "col_var"}, {"step", "variance"}),
}
"""What each optimiser keeps of a parameter: one of these, or nothing before its first step."""


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write or replace a checkpoint, all of it or nothing.

    Raises:
        UserError: the place cannot be written to.
        WorkError: the disk is full or fails.
    """
    with replaced(path) as partial, foreign_errors(partial):
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(whole, partial, metadata={STATE: json.dumps({"format": FORMAT, **state})})


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state that `write_checkpoint` wrote. Memory goes by the bytes of the file.

    Raises:
        UserError: it is missing, no regular file, or no checkpoint of a training.
    """
    try:
        with safe_open(regular_file(path), "pt") as file:
            state = json.loads((file.metadata() or {}).get(STATE, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path} is missing: there is no checkpoint to go on from.") from None
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read as a checkpoint: {error}.") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path} is no checkpoint of a training: its header holds no state of format {FORMAT}.")
    return tensors, state


def write_training(folder: Path, state_dict: Mapping[str, Any]) -> None:
    """Write the state of a trainer into a folder that holds nothing but its checkpoint, and remove the one before.

    Raises:
        UserError, WorkError: as `write_checkpoint`.
    """
    tensors, state = state_dict["tensors"], state_dict["state"]
    best = _best(folder, state)
    if best is not None and not best.exists():
        write_checkpoint(best, under("best.", tensors), {})
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith("best.")}
    write_checkpoint(folder / LAST, rest, state)
    _remove_others(folder, best)


def read_training(folder: Path, clean: bool = True) -> dict[str, Any]:
    """The state that `write_training` wrote, after what a kill left behind was removed.

    Args:
        clean: False leaves that to another process.

    Raises:
        UserError: as `read_checkpoint`.
    """
    if clean:
        clean_leftovers(folder)
    tensors, state = read_checkpoint(folder / LAST)
    with damage():
        best = _best(folder, state)
    if best is not None:
        tensors |= {f"best.{name}": tensor for name, tensor in read_checkpoint(best)[0].items()}
    if clean:
        _remove_others(folder, best)
    return {"tensors": tensors, "state": state}


@contextmanager
def damage() -> Iterator[None]:
    """Turn what a state raises that no trainer wrote into an error that says so.

    Raises:
        UserError: the state lacks something, or holds what it cannot be made of.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        raise UserError(
            f"the checkpoint is damaged, or no trainer wrote it: {type(error).__name__}: {error}. Start afresh."
        ) from error


def has_training(folder: Path) -> bool:
    """Whether a folder holds the checkpoint of a training."""
    return (folder / LAST).exists()


def _best(folder: Path, state: Mapping[str, Any]) -> Path | None:
    epoch = state["best"][0]
    return None if epoch is None else folder / BEST.format(int(epoch))


def _remove_others(folder: Path, best: Path | None) -> None:
    for path in folder.glob(BEST.format("*")):
        if path != best:
            path.unlink()


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def copy_into(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values into the tensors of their names, in place."""
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(values[name])


def refuse_others(part: str, found: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not those of this training.

    Raises:
        UserError: names are missing or left over, or a shape or a dtype is another.
    """
    problems = Problems("checkpoint")
    for what, names in (("lacks", ours.keys() - found.keys()), ("also holds", found.keys() - ours.keys())):
        problems.check(not names, f"{part} {what} {listed(names)}.")
    for name in ours.keys() & found.keys():
        then, now = found[name], ours[name]
        problems.check(
            then.shape == now.shape and then.dtype == now.dtype,
            f"{part} '{name}' is {then.dtype} {tuple(then.shape)}, and this model's {now.dtype} {tuple(now.shape)}.",
        )
    problems.done()


def refuse_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with other options than a training began with.

    Raises:
        UserError: every difference.
    """
    problems = Problems("the checkpoint is of another training")
    for name in dict.fromkeys([*then, *now]):
        problems.check(then.get(name) == now.get(name), f"{name} was {then.get(name)!r} and is now {now.get(name)!r}.")
    problems.done()


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module's state, each once, under the first of its names."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), (name, tensor))
    return {name: tensor.detach() for name, tensor in found.values()}


def parts_of(optimiser: Optimizer) -> list[Optimizer]:
    """The optimisers that one is made of."""
    return optimiser.parts if isinstance(optimiser, Optimisers) else [optimiser]


def optimiser_tensors(optimiser: Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """The state of an optimiser as '<parameter>.<what is kept>'."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {
        f"{names[id(parameter)]}.{key}": value
        for part in parts_of(optimiser)
        for parameter, kept in part.state.items()
        for key, value in kept.items()
    }


def load_optimiser(optimiser: Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser the state that `optimiser_tensors` returned; its groups stay as they are.

    Raises:
        UserError: the state is not one of this optimiser over these parameters; nothing was changed.
    """
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parameter, _, key = name.rpartition(".")
        by_parameter.setdefault(parameter, {})[key] = tensor
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    states = []
    for part in parts_of(optimiser):
        state = part.state_dict()
        for stored, group in zip(state["param_groups"], part.param_groups, strict=True):
            for index, parameter in zip(stored["params"], group["params"], strict=True):
                kept = by_parameter.pop(names[id(parameter)], {})
                _check_kept(type(part).__name__, names[id(parameter)], parameter, kept)
                if kept:
                    state["state"][index] = kept
        states.append(state)
    if by_parameter:
        raise UserError(f"the optimiser's state is of other parameters too: {', '.join(sorted(by_parameter)[:3])}.")
    optimiser.load_state_dict({"parts": states} if isinstance(optimiser, Optimisers) else states[0])


def _check_kept(optimiser: str, name: str, parameter: Tensor, kept: Mapping[str, Tensor]) -> None:
    if kept and set(kept) not in KEPT[optimiser]:
        raise UserError(f"the optimiser's state of '{name}' is {', '.join(sorted(kept))}, which {optimiser} never has.")
    for key, tensor in kept.items():
        wanted = _shape_of(key, tuple(parameter.shape))
        if tuple(tensor.shape) != wanted and not (key == "step" and tensor.numel() == 1):
            raise UserError(f"the optimiser's state '{name}.{key}' has the shape {tuple(tensor.shape)}, not {wanted}.")


def _shape_of(key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what is kept of a parameter; Adafactor keeps one number a row and one a column."""
    if key == "row_var":
        return (*shape[:-1], 1)
    return (*shape[:-2], 1, shape[-1]) if key == "col_var" else shape
