"""Propose the point of a trial: a function of the seed, the trial's number and the results before it, and nothing else.

A sampler of Optuna draws from random numbers that move on with every call, and a process that was killed takes them
along. So each trial gets a sampler of its own, seeded by the sweep's seed and the trial's number, over a study in
memory that holds the earlier trials: however often a sweep was stopped, trial k comes out the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from rcc.errors import Problems, UserError
from rcc.sweeps.space import Dimension, Value, every_point, in_order

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

GRID = "grid"
SAMPLERS = {
    "tpe": "TPESampler",
    "nsgaii": "NSGAIISampler",
    "gp": "GPSampler",
    "random": "RandomSampler",
}
NAMES = (*SAMPLERS, GRID)
Asks = Callable[[Dimension, Mapping[str, Value]], bool]
"""Whether a trial with these choices has a place for a dimension."""


def check_sampler(name: str, options: Mapping[str, Any]) -> None:
    """Refuse a sampler that does not exist, or options that it does not take.

    Raises:
        UserError: with what there is.
    """
    if name == "cmaes":
        raise UserError(
            "sampler=cmaes keeps the state of its search as a pickle in the study, and nothing is ever unpickled here. "
            f"Take one of {', '.join(NAMES)}."
        )
    problems = Problems()
    problems.choice("sampler", name, NAMES)
    problems.done()
    try:
        if name != GRID:
            _sampler(name, options, 0)
        elif options:
            raise TypeError(f"it takes none, and {', '.join(options)} is given")
    except (TypeError, ValueError) as error:
        raise UserError(f"options of sampler={name}: {error}.") from error


def seed_of(seed: int, number: int) -> int:
    """The seed of one trial."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()[:4], "big")


def propose(
    space: Sequence[Dimension],
    sampler: str,
    options: Mapping[str, Any],
    seed: int,
    number: int,
    directions: Sequence[Any],
    history: Sequence[FrozenTrial],
    asks: Asks,
    first: Sequence[Mapping[str, Value]] = (),
) -> FrozenTrial | None:
    """The point of trial `number`, with what its sampler notes of it; None where a grid has no more points.

    Args:
        options: of the sampler's class in Optuna.
        history: earlier trials: finished ones with their values, and those that run side by side.
        first: points of the first trials; what one leaves open is the sampler's.
    """
    import optuna

    dimensions = in_order(list(space))
    given = dict(first[number]) if number < len(first) else {}
    if sampler == GRID:
        cell = next(islice(_grid(dimensions, asks), number, None), None)
        return None if cell is None else _trial(dimensions, cell | given, {})
    study = optuna.create_study(
        directions=list(directions), sampler=_sampler(sampler, options, seed_of(seed, number), history)
    )
    study.add_trials(history)
    if given:
        study.enqueue_trial(given)
    trial = study.ask()
    point: dict[str, Value] = {}
    for dimension in dimensions:
        if asks(dimension, point):
            point[dimension.option] = trial._suggest(dimension.option, dimension.distribution)
    return _trial(dimensions, point, study.trials[-1].system_attrs)


def _sampler(name: str, options: Mapping[str, Any], seed: int, history: Sequence[FrozenTrial] = ()) -> BaseSampler:
    import optuna

    kind = getattr(optuna.samplers, SAMPLERS[name])
    side_by_side = any(not trial.state.is_finished() for trial in history)
    liar = {"constant_liar": True} if name == "tpe" and side_by_side else {}
    made: BaseSampler = kind(seed=seed, **liar | dict(options))
    return made


def _grid(dimensions: list[Dimension], asks: Asks) -> Iterator[dict[str, Value]]:
    """The distinct points of the grid, each without what its choices have no place for."""
    seen = set()
    for point in every_point(dimensions):
        kept: dict[str, Value] = {}
        for dimension in dimensions:
            if asks(dimension, kept):
                kept[dimension.option] = point[dimension.option]
        key = tuple(kept.items())
        if key not in seen:
            seen.add(key)
            yield kept


def _trial(dimensions: Sequence[Dimension], point: Mapping[str, Value], noted: Mapping[str, Any]) -> FrozenTrial:
    """A trial that is about to run. Of the sampler's notes only numbers are kept: no file holds an object of code."""
    from optuna.trial import TrialState, create_trial

    return create_trial(
        state=TrialState.RUNNING,
        params=dict(point),
        distributions={each.option: each.distribution for each in dimensions if each.option in point},
        system_attrs={name: value for name, value in noted.items() if isinstance(value, int | float)},
    )
