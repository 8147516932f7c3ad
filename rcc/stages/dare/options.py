"""Check the options of a pruning stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rcc.errors import Problems
from rcc.ops.curves import CURVES
from rcc.stages.dare.plan import MOST
from rcc.stages.dare.solve import SOLVERS, TARGETS

SCOPES = ("row", "layer", "tower", "global")
SCORES = ("magnitude", "random", "wanda", "taylor", "fisher")
ALLOCATIONS = ("uniform", "importance", "owl", "sensitivity")
RESCALES = ("none", "least_squares", "dare")


def check_options(
    target_sparsity: float,
    num_iterations: int,
    schedule: str,
    scope: str | None,
    score: str,
    allocation: str,
    rescale: str,
    base: str | Path | None,
    solver: str,
    solver_iterations: int,
    solver_target: str,
    solver_refit: int,
    pattern: str | None,
    floor: float,
    **selection: Any,
) -> None:
    """Check the options of `DARECompressor`, those of the selection aside (they are checked against a model).

    Raises:
        UserError: all that is wrong with them.
    """
    problems = Problems("stage 'dare'")
    problems.check(
        is_number(target_sparsity) and 0 <= target_sparsity <= MOST,
        f"target_sparsity is {target_sparsity}; it must lie in [0, {MOST}].",
    )
    problems.check(
        is_count(num_iterations), f"num_iterations is {num_iterations}; it must be a whole number from 1 up."
    )
    problems.choice("schedule", schedule, CURVES)
    if scope is not None:
        problems.choice("scope", scope, SCOPES)
    problems.choice("score", score, SCORES)
    problems.choice("allocation", allocation, ALLOCATIONS)
    problems.choice("rescale", rescale, RESCALES)
    problems.choice("solver", solver, SOLVERS)
    problems.choice("solver_target", solver_target, TARGETS)
    problems.check(
        solver_target == "dense" or solver != "none",
        f"solver_target={solver_target} is a solver's: take solver=admm or obs, or leave it at dense.",
    )
    problems.check(
        is_count(solver_refit) or (solver_refit == 0 and not isinstance(solver_refit, bool)),
        f"solver_refit is {solver_refit}; it must be a whole number from 0 up.",
    )
    problems.check(is_count(solver_iterations), f"solver_iterations is {solver_iterations}; it must be 1 or more.")
    problems.check(
        is_number(floor) and 0 <= floor < 1, f"floor is {floor}; it is the share every layer keeps, in [0, 1)."
    )
    if is_number(floor) and is_number(target_sparsity):
        problems.check(
            not allocation_shares(scope, allocation) or target_sparsity <= 1 - floor + 1e-12,
            f"target_sparsity is {target_sparsity} and floor={floor} keeps more of every layer: lower one of them.",
        )
    if allocation == "importance":
        problems.check(
            scope != "global",
            "allocation=importance shares a budget among layers or towers, and scope=global has but one:"
            " take scope=layer, or allocation=uniform.",
        )
        problems.check(score == "magnitude", "allocation=importance ranks magnitudes: take score=magnitude.")
    if allocation in ("owl", "sensitivity"):
        problems.check(
            scope in (None, "row", "layer"),
            f"allocation={allocation} shares one budget among layers: take scope=layer or row (found {scope}).",
        )
    if solver != "none":
        problems.check(
            score == "magnitude" and rescale == "none" and base is None,
            f"solver={solver} ranks and adjusts the values itself: take solver=none, or leave score=magnitude,"
            f" rescale=none and no base (found score={score}, rescale={rescale}, base={base}).",
        )
        problems.check(
            num_iterations == 1, f"solver={solver} shrinks its mask within one step: leave num_iterations=1."
        )
    _check_pattern(problems, pattern, target_sparsity, allocation, scope, solver)
    if base is not None:
        problems.check(
            (score, rescale) == ("random", "dare"),
            "with a base, deltas are dropped at random and the rest rescaled by 1/(1 − share dropped): set"
            f" score=random and rescale=dare (found score={score}, rescale={rescale}), or leave base out.",
        )
    problems.done()


def _check_pattern(
    problems: Problems, pattern: str | None, target: float, allocation: str, scope: str | None, solver: str
) -> None:
    if pattern is None:
        return
    try:
        n, m = parse_pattern(pattern) or (0, 1)
    except ValueError:
        problems.check(False, f"pattern is {pattern!r}; it reads as '2:4', two of every four inputs kept.")
        return
    problems.check(
        not is_number(target) or abs(target - (1 - n / m)) < 1e-6,
        f"pattern={pattern} makes {1 - n / m:.4g} of the values zero: set target_sparsity={1 - n / m:.4g} (found"
        f" {target}).",
    )
    problems.check(
        allocation == "uniform" and scope in (None, "layer") and solver != "none",
        f"pattern={pattern} leaves no budget to share: it goes with solver=admm or obs, allocation=uniform and"
        f" scope=layer (found solver={solver}, allocation={allocation}, scope={scope}).",
    )


def parse_pattern(pattern: str | None) -> tuple[int, int] | None:
    """(n, m) of 'n:m', 0 < n < m.

    Raises:
        ValueError: anything else.
    """
    if pattern is None:
        return None
    n, m = (int(part) for part in str(pattern).split(":"))
    if not 0 < n < m:
        raise ValueError(pattern)
    return n, m


def allocation_shares(scope: str | None, allocation: str) -> bool:
    """Whether layers compete for values, so that the floor matters."""
    return allocation != "uniform" or scope in ("tower", "global")


def scope_for(score: str, scope: str | None) -> str:
    """The scope asked for, or else that of the score: a row for 'wanda', as published, a layer for the others."""
    return scope or ("row" if score == "wanda" else "layer")


def is_count(value: object) -> bool:
    """Whether `value` is a whole number from 1 up, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_number(value: object) -> bool:
    """Whether `value` is an int or a float, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)
