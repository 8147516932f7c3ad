"""Predict what truncation makes of each unit, from shapes and counts alone, for a dry run."""

from __future__ import annotations

from dataclasses import replace

from rcc.stages.base import UnitPlan, planned
from rcc.stages.nullu.rank_budget import RankRule


def plan_truncation(unit: UnitPlan, rule: RankRule, itemsize: int, allocation: str) -> UnitPlan:
    """The unit with the matrices that the rule's share allows; with allocation by spectra, those of an equal share."""
    if not unit.factorable:
        return planned(unit, "left as it is: holds no low-rank pair")
    (m, n), (_, nonzeros) = unit.shape, unit.matrices.get("sparse", (0, 0))
    most = rule.most(unit.shape, nonzeros)
    if most is None:
        return planned(unit, "rank by energy: known only after the SVD; counted as it is")
    if most == 0:
        return planned(unit, f"left as it is: {over_the_share(rule, unit.shape, nonzeros)}")
    rank = min(most, m, n)
    if rule.of == "weight" and "left" in unit.matrices and "sparse" not in unit.matrices:
        rank = min(rank, unit.matrices["left"][0] // m)
    matrices = {"left": (m * rank, m * rank), "right": (rank * n, rank * n)}
    if rule.of == "joint" or (rule.of == "residual" and "sparse" in unit.matrices):
        matrices = {"sparse": (m * n, rule.kept_beside(unit.shape, nonzeros)), **matrices}
    would = replace(unit, matrices=matrices).nbytes(itemsize)
    now = m * n * itemsize if rule.of == "residual" else unit.nbytes(itemsize)
    if would >= now:
        unless = "" if rule.energy is None else " unless energy asks for less"
        return planned(unit, f"left as it is{unless}: rank {rank}: {no_gain(would, now)}")
    bound = "rank" if rule.energy is None else "rank at most"
    if allocation == "spectra":
        bound = "by the spectra, on average rank"
    return planned(unit, f"{bound} {rank} of {min(m, n)}", **matrices)


def no_gain(would: int, now: int) -> str:
    """Why a unit is left as it is: the bytes its new form would take, and those it must be below."""
    return f"the factors would not be smaller, {would:,} bytes where {now:,} are stored"


def over_the_share(rule: RankRule, shape: tuple[int, int], nonzeros: int) -> str:
    """Why there is no pair beside an S."""
    return f"S holds {nonzeros:,} values, and {rule.share:.3g} of {shape[0] * shape[1]:,} leaves no rank beside them"
