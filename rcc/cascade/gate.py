"""Gate a step on the share of the dense model's metric that it kept, and soften one that kept too little."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rcc.cascade.records import Baseline
from rcc.errors import Problems, UserError, WorkError
from rcc.measurement import Interval, Metric
from rcc.measurement.interval import LEVEL, normal_quantile
from rcc.measurement.paired import paired_intervals

FAILURES = ("skip", "continue", "abort")
ERRORS = ("abort", "skip")
CHANCES = ("refuse", "continue")
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
        confidence: None lets the retention that was measured decide. Else a step passes when the low end of the
            retention's interval at this level, in (0, 1), reaches the threshold: of models that really keep just that
            much, (1 − confidence) / 2 pass.
        on_chance: 'refuse' ends the run before its first step where the dense model is not known to beat guessing,
            'continue' compresses it all the same.
    """

    threshold: float = 0.95
    tries: int = 3
    on_failure: str = "skip"
    on_error: str = "abort"
    rollback: bool = True
    confidence: float | None = None
    on_chance: str = "refuse"

    def __post_init__(self) -> None:
        problems = Problems("gate")
        problems.within("threshold", self.threshold, "(0, 1]")
        problems.whole("tries", self.tries, 0)
        problems.choice("on_failure", self.on_failure, FAILURES)
        problems.choice("on_error", self.on_error, ERRORS)
        problems.flag("rollback", self.rollback)
        problems.choice("on_chance", self.on_chance, CHANCES)
        if self.confidence is not None:
            problems.within("confidence", self.confidence, "(0, 1)")
            problems.check(
                self.threshold != 1,
                "confidence with threshold=1: no sample shows that nothing at all is lost, so that no step could pass."
                " Set threshold below 1, or confidence=null.",
            )
        problems.done()

    @property
    def level(self) -> float:
        """Of the intervals of retention: the confidence, else that of every table."""
        return LEVEL if self.confidence is None else self.confidence

    def admit(self, dense: Baseline) -> Baseline:
        """The dense model as what steps are held against, with a note where its items are too few to tell them apart.

        Raises:
            UserError: it is not known to beat guessing; or with a `confidence`, the metric is no mean over items, or
                there are so few that a step which changes nothing would not pass.
        """
        main, samples = dense.measurement.main, dense.measurement.samples
        if self.on_chance == "refuse" and _is_chance(main):
            raise UserError(_chance_text(main, samples))
        unchanged = retention_interval(main, dense.items, dense.items, self.level)
        if self.confidence is not None:
            if unchanged is None:
                raise UserError(
                    f"gate.confidence={self.confidence} needs to know what each selection item adds to the metric, and"
                    f" {main.name} is no mean over items, or its validator does not give their values"
                    " (`details['per_image']`). Name another evaluator first in eval=, or set gate.confidence=null."
                )
            if unchanged.low < self.threshold:
                raise UserError(
                    f"gate.confidence={self.confidence}: of {len(dense.items)} selection items a model that changes no"
                    f" answer is known to keep {unchanged.low:.1%} of the {main.name}, less than"
                    f" gate.threshold={self.threshold}, so that no step could pass. Take"
                    f" {self._items_needed(dense, unchanged)} selection items or more, a lower threshold or confidence,"
                    " or gate.confidence=null."
                )
        return replace(dense, note=self.too_few(unchanged, samples))

    def _items_needed(self, dense: Baseline, unchanged: Interval) -> int:
        """Items of which a model that changes none of them is known to keep the threshold."""
        square = normal_quantile(self.level) ** 2
        # What N items leave open is in proportion to z² / (N + z²).
        return math.ceil((1 - unchanged.low) * (len(dense.items) + square) / (1 - self.threshold) - square)

    def too_few(self, kept: Interval | None, samples: int) -> str:
        """What to say where the retention's standard error is more than the gate allows to be lost; empty where it is
        less, or not known."""
        if kept is None or kept.standard_error <= 1 - self.threshold:
            return ""
        allowed, error = 100 * (1 - self.threshold), 100 * kept.standard_error
        return (
            f"The gate allows {allowed:.1f} points of retention to be lost, less than one standard error ({error:.1f}"
            f" points) of what {samples} selection items can tell: whether a step passes is chance. Take more selection"
            " items (`data.selection`), a lower `gate.threshold`, or another metric."
        )

    def judged(self, retention: float, interval: Interval | None) -> float:
        """What is held against the threshold: the retention, or with a `confidence` the low end of its interval."""
        return retention if self.confidence is None or interval is None else interval.low

    def problem(self, retention: float, interval: Interval | None = None) -> str:
        """The reason for which a retention of that `interval` does not pass; empty when it does."""
        if math.isnan(retention):
            return "the metric is not a number"
        if self.confidence is not None and interval is None:
            return "the metric has no values by item any more, which gate.confidence needs"
        if retention < self.threshold:
            return f"kept {retention:.1%} of the dense model, less than {self.threshold:.1%}"
        if self.judged(retention, interval) < self.threshold:
            return (
                f"kept {retention:.1%} of the dense model, but at {self.confidence:.0%} confidence perhaps only"
                f" {self.judged(retention, interval):.1%}, less than {self.threshold:.1%}"
            )
        return ""

    def softer(self, strength: float | None, retention: float, least: float = 0.0) -> float | None:
        """The strength to try next after a failure, above `least`, or None when the stage cannot be softened further;
        `retention` is what was `judged`.

        Follows `adaptive_compression_schedule`. A miss too small for it to react (within 2 points) would
        be repeated unchanged; it is softened by half its step instead.
        """
        if strength is None:
            return None
        kept = 0.0 if math.isnan(retention) else retention
        ratio = adaptive_compression_schedule(kept, self.threshold, strength)
        if ratio == strength:
            ratio = max(strength * 0.95, LEAST_RATIO)
        return ratio if least < ratio < strength else None


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


def retention_interval(
    dense: Metric, before: Sequence[float], after: Sequence[float], level: float = LEVEL
) -> Interval | None:
    """The interval of what is kept of the `dense` value, from what each item adds before and after; None where that is
    not known. It is the interval of the paired difference: the dense value is taken as it was measured."""
    if not before or len(before) != len(after):
        return None
    (change,) = paired_intervals([(np.asarray(before, dtype=float), np.asarray(after, dtype=float))], level)
    return change.mapped(lambda apart: retention(dense, replace(dense, value=max(0.0, dense.value + apart))))


def _is_chance(dense: Metric) -> bool:
    """Whether the interval of the dense value holds what guessing reaches, or lies beyond it."""
    bounds = dense.bounds
    if dense.chance is None or bounds is None:
        return False
    return bounds.low <= dense.chance if dense.higher_is_better else bounds.high >= dense.chance


def _chance_text(dense: Metric, samples: int) -> str:
    bounds = dense.bounds
    assert bounds is not None
    return (
        f"the dense model's {dense.name} is {dense.value:.4g} on {samples} selection items ({bounds.level:.0%} interval"
        f" {bounds.low:.4g} to {bounds.high:.4g}), and guessing reaches {dense.chance:.4g}: nothing shows that it"
        " knows what it is asked, and a gate on it would pass any damage. Check that model, data, class names and"
        " preprocessing belong together (`rcc-run job=evaluate`), take more selection items (`data.selection`), or"
        " compress it all the same with gate.on_chance=continue."
    )


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
