"""Gate a step on the share of the dense model's metric that it kept, and soften one that kept too little."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rcc.errors import Problems, WorkError
from rcc.measurement import Metric

FAILURES = ("skip", "continue", "abort")
ERRORS = ("abort", "skip")
LEAST_RATIO, MOST_RATIO = 0.1, 0.99


@dataclass(frozen=True)
class Gate:
    """The threshold that a step must pass, and what happens to one that does not.

    Attributes:
        threshold: least share of the dense model's primary metric that must be kept, in (0, 1].
        tries: softer attempts after the first, before the step counts as failed.
        on_failure: 'skip' rolls the step back, 'continue' keeps the degraded model, 'abort' ends the run.
        on_error: 'abort' ends the run when a stage raises or leaves a NaN, 'skip' rolls the step back.
        rollback: False keeps every failed step as it is, without trying again (the specification's
            `rollback_enabled`).
    """

    threshold: float = 0.95
    tries: int = 3
    on_failure: str = "skip"
    on_error: str = "abort"
    rollback: bool = True

    def __post_init__(self) -> None:
        problems = Problems("gate")
        problems.within("threshold", self.threshold, "(0, 1]")
        problems.whole("tries", self.tries, 0)
        problems.choice("on_failure", self.on_failure, FAILURES)
        problems.choice("on_error", self.on_error, ERRORS)
        problems.flag("rollback", self.rollback)
        problems.done()

    def problem(self, retention: float) -> str:
        """The reason for which `retention` does not pass; empty when it does."""
        if math.isnan(retention):
            return "the metric is not a number"
        if retention < self.threshold:
            return f"kept {retention:.1%} of the dense model, less than {self.threshold:.1%}"
        return ""

    def softer(self, strength: float | None, retention: float) -> float | None:
        """The strength to try next after a failure, or None when the stage cannot be softened further.

        Follows `adaptive_compression_schedule`. A miss too small for it to react (within 2 points) would
        be repeated unchanged; it is softened by half its step instead.
        """
        if strength is None:
            return None
        kept = 0.0 if math.isnan(retention) else retention
        ratio = adaptive_compression_schedule(kept, self.threshold, strength)
        if ratio == strength:
            ratio = max(strength * 0.95, LEAST_RATIO)
        return ratio if ratio < strength else None


def retention(dense: Metric, now: Metric) -> float:
    """Share of the dense model's metric that is left: now / dense, or dense / now where lower is better.

    Raises:
        WorkError: the dense value is not finite or not above zero, so that nothing can be measured against it.
    """
    if not math.isfinite(dense.value) or dense.value <= 0:
        raise WorkError(
            f"the dense model's {dense.name} is {dense.value}; retention against it is undefined. "
            "Check that the model and the data belong together (`rcc-run job=evaluate`)."
        )
    if dense.higher_is_better:
        return now.value / dense.value
    return math.inf if now.value == 0 else dense.value / now.value


def adaptive_compression_schedule(current_performance: float, target_performance: float, current_ratio: float) -> float:
    """The specification's §6.2: ×1.1 with more than 5 points to spare, ×0.9 when 2 points short, else unchanged.

    Args:
        current_performance: retention reached, 1.0 = the dense model.
        target_performance: retention wanted.
        current_ratio: the stage's strength; the result is clamped to [0.1, 0.99].
    """
    gap = current_performance - target_performance
    if gap > 0.05:
        current_ratio *= 1.1
    elif gap < -0.02:
        current_ratio *= 0.9
    return min(max(current_ratio, LEAST_RATIO), MOST_RATIO)
