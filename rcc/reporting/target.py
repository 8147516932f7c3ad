"""Describe a target in bytes: what was asked, what was reached, and why it was missed where it was."""

from __future__ import annotations

from collections.abc import Mapping

from rcc.cascade.plan import Plan
from rcc.cascade.records import UNREACHED, TargetOutcome
from rcc.reporting.formats import bytes_text


def target_text(outcome: TargetOutcome, nbytes: int) -> str:
    """'Target: 242,719 bytes. Reached: 244,073 bytes, 0.56% above.' and what else is to be said.

    Args:
        nbytes: of the artifact's directory, measured.
    """
    text = f"Target: {outcome.nbytes:,} bytes. Reached: {nbytes:,} bytes, {off_text(nbytes, outcome.nbytes)}."
    if outcome.reason:
        text += f" The target is missed because {outcome.reason}."
    elif outcome.repeats:
        times = "once" if outcome.repeats == 1 else f"{outcome.repeats} times"
        text += f" The last round was done again {times}."
    return text


def repeated_text(outcome: TargetOutcome, name: str) -> str:
    """The reason for doing the last round again, from the step called `name` on."""
    return (
        f"The artifact would take {outcome.reached:,} bytes, {off_text(outcome.reached, outcome.nbytes)}"
        f" the target of {outcome.nbytes:,}: {name} and what follows is done again with what was found."
    )


def shares_text(shares: Mapping[str, float]) -> str:
    """'Of the way to the target: nullu 12%, dare 88%, …', the shares that were measured."""
    parts = ", ".join(f"{label} {share:.0%}" for label, share in shares.items())
    return f"Of the way to the target: {parts}, by what each alone does to the outputs of the dense model."


def planned_target_text(plan: Plan) -> str:
    """The target as a plan sees it, with strengths planned from counts alone."""
    assert plan.target is not None
    last = plan.steps[-1].nbytes
    text = f"Target: {plan.target:,} bytes ({bytes_text(plan.target)}) for the whole artifact."
    if last > plan.target:
        text += f" Counts alone say {bytes_text(last)} of weights at least, which entropy coding may reduce."
    return text + " Strengths are those without entropy coding, shared alike; the run measures and solves for its own."


def off_text(nbytes: int, target: int) -> str:
    """'0.56% above', '1.20% below', 'exactly'."""
    if nbytes == target:
        return "exactly"
    return f"{100 * abs(nbytes - target) / target:.2f}% {'above' if nbytes > target else 'below'}"


def weighed_text(done: int, distance: float, best: int) -> str:
    """What rounding to the target would make of the model as it is."""
    where = "the dense model" if done == 0 else f"the model after {done} step{'s' * (done > 1)}"
    better = "" if best == done else f"; worse than after {best}"
    if distance >= UNREACHED:
        return f"Rounding {where} alone does not reach the target."
    return f"Rounded to the target, {where} would err by {distance:.3g} (1 - cosine of its outputs){better}."
