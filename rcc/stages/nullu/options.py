"""Check the options of the low-rank stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rcc.errors import Problems
from rcc.ops.factorise import FACTORS, PRECISIONS
from rcc.stages.dare.options import is_number

METRICS = ("plain", "calibration")
PARTS = ("weight", "residual", "joint")
ALLOCATIONS = ("uniform", "spectra")
SCOPES = ("global", "tower")


def check_options(
    rank_reduction_ratio: float | None,
    energy_threshold: float | None,
    paired_features: str | Path | None,
    paired_rank: int,
    precision: str,
    factors: str,
    metric: str,
    of: str,
    sparse_share: float,
    allocation: str,
    scope: str,
    refit: bool,
    **selection: Any,
) -> None:
    """Check the options of `NulluProjector`, those of the selection aside (they are checked against a model).

    Raises:
        UserError: all that is wrong with them.
    """
    problems = Problems("stage 'nullu'")
    ratio, energy = rank_reduction_ratio, energy_threshold
    within = ratio is None or (is_number(ratio) and 0 <= ratio < 1)
    problems.check(within, f"rank_reduction_ratio is {ratio}; it must lie in [0, 1).")
    within = energy is None or (is_number(energy) and 0 < energy <= 1)
    problems.check(within, f"energy_threshold is {energy}; it must lie in (0, 1].")
    problems.check(
        ratio is not None or energy is not None,
        "rank_reduction_ratio and energy_threshold are both null; one of them must choose the rank.",
    )
    problems.check(
        paired_features is None or Path(paired_features).is_file(),
        f"paired_features: there is no file {paired_features}.",
    )
    whole = is_number(paired_rank) and isinstance(paired_rank, int)
    problems.check(whole and paired_rank >= 1, f"paired_rank is {paired_rank}; it must be a whole number from 1 up.")
    problems.choice("precision", precision, PRECISIONS)
    problems.choice("factors", factors, FACTORS)
    problems.choice("metric", metric, METRICS)
    problems.choice("of", of, PARTS)
    within = is_number(sparse_share) and 0 < sparse_share < 1
    problems.check(within, f"sparse_share is {sparse_share}; it must lie in (0, 1).")
    problems.choice("allocation", allocation, ALLOCATIONS)
    problems.choice("scope", scope, SCOPES)
    problems.check(isinstance(refit, bool), f"refit is {refit}; it must be true or false.")
    if of == "joint":
        problems.check(
            ratio is not None,
            "of=joint divides what rank_reduction_ratio leaves between S and U V: set it.",
        )
    if allocation == "spectra":
        problems.check(
            ratio is not None, "allocation=spectra spends what rank_reduction_ratio leaves of all layers: set it."
        )
    problems.done()
