"""Read the points of earlier runs and sweeps from their files, for a search that tries them first.

Only values of what the search itself asks are taken: no file chooses code, data or an option that is not searched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcc.command_line import key_of
from rcc.composing import resume
from rcc.composing.joined import GROUPS, SEPARATOR
from rcc.composing.overrides import unquoted
from rcc.errors import UserError
from rcc.limits import expanded
from rcc.nested import leaves
from rcc.sweeps.front import on_front
from rcc.sweeps.record import is_sweep
from rcc.sweeps.space import Dimension, Value
from rcc.sweeps.trials import RUN, state_of

OPTION = "first"


def points_of(value: str, space: Sequence[Dimension]) -> list[dict[str, Value]]:
    """The point of the run in the folder that `first=[<value>]` names; of a sweep those of its front, smallest first.

    What a run has beyond the space, as an option at `auto`, is left open, and said.

    Raises:
        UserError: it is the folder of neither, its files cannot be read, or nothing of it is searched.
    """
    place = expanded(OPTION, value)
    if is_sweep(place):
        runs = _front(place)
        if not runs:
            raise UserError(f"{OPTION}: the sweep in {place} has no finished trial. Name another, or leave it out.")
    elif (place / RUN).is_file():
        runs = [place]
    else:
        raise UserError(
            f"{OPTION}: {value} is the folder of neither a run nor a sweep. Name one, as outputs/<date>/<time>, or give"
            " a point, as {stage.dare.target_sparsity:0.5}."
        )
    found = [_point(run, space) for run in runs]
    return [point for number, point in enumerate(found) if point not in found[:number]]


def _front(folder: Path) -> list[Path]:
    """The trials on the front of a sweep."""
    done = []
    for place in sorted(path for path in folder.iterdir() if path.name.isdecimal()):
        result = state_of(place).result
        if result is not None and not result.missed and {"retention", "bytes"} <= set(result.numbers):
            done.append((result.numbers["bytes"], result.numbers["retention"], place))
    best = on_front([(kept, nbytes) for nbytes, kept, _ in done])
    return [place for (_, _, place), is_best in sorted(zip(done, best, strict=True)) if is_best]


def _point(run: Path, space: Sequence[Dimension]) -> dict[str, Value]:
    config, typed = resume.recorded_config(run, OPTION), resume.recorded_overrides(run, OPTION)
    chosen = {key_of(text): unquoted(text.partition("=")[2]) for text in typed}
    values = leaves(config)
    point: dict[str, Value] = {}
    for dimension in space:
        value = _choice(dimension.option, config, chosen) if dimension.is_group else values.get(dimension.option)
        if value is None and dimension.option not in values:
            continue
        if dimension.holds(value):
            point[dimension.option] = value
        else:
            print(f"{OPTION}: {run} has {dimension.option}={value}, which is not searched; the sampler chooses it.")
    if not point:
        raise UserError(
            f"{OPTION}: {run} has no value of what is searched: {', '.join(each.option for each in space)}."
        )
    return point


def _choice(group: str, config: Mapping[str, Any], chosen: Mapping[str, str]) -> str | None:
    """What a run took of a group: as typed, or for a joined group by the labels that its configuration holds."""
    if group in chosen:
        return chosen[group]
    node = config.get(group)
    return SEPARATOR.join(map(str, node)) if group in GROUPS and isinstance(node, Mapping) else None
