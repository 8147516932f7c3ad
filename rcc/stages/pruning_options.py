"""The options of a pruning stage and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rcc.errors import Problems
from rcc.ops.curves import CURVES
from rcc.stages.pruning_plan import MOST

SCOPES = ("row", "layer", "tower", "global")
SCORES = ("magnitude", "random", "wanda")
ALLOCATIONS = ("uniform", "importance")
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
        isinstance(num_iterations, int) and not isinstance(num_iterations, bool) and num_iterations >= 1,
        f"num_iterations is {num_iterations}; it must be a whole number from 1 up.",
    )
    problems.choice("schedule", schedule, CURVES)
    if scope is not None:
        problems.choice("scope", scope, SCOPES)
    problems.choice("score", score, SCORES)
    problems.choice("allocation", allocation, ALLOCATIONS)
    problems.choice("rescale", rescale, RESCALES)
    if allocation == "importance":
        problems.check(
            scope != "global",
            "allocation=importance shares a budget among layers or towers, and scope=global has but one:"
            " take scope=layer, or allocation=uniform.",
        )
        problems.check(score == "magnitude", "allocation=importance ranks magnitudes: take score=magnitude.")
    if base is not None:
        problems.check(
            (score, rescale) == ("random", "dare"),
            "with a base, deltas are dropped at random and the rest rescaled by 1/(1 − share dropped): set"
            f" score=random and rescale=dare (found score={score}, rescale={rescale}), or leave base out.",
        )
    problems.done()


def scope_for(score: str, scope: str | None) -> str:
    """The scope asked for, or else that of the score: a row for 'wanda', as published, a layer for the others."""
    return scope or ("row" if score == "wanda" else "layer")


def is_number(value: object) -> bool:
    """Whether `value` is an int or a float, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)
