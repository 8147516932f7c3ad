"""Attempt a step once: apply the stage, look for non-finite weights, measure, and compare with the gate."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import torch

from rcc.artifact.contents import checksum, parts_of
from rcc.artifact.size import model_size
from rcc.cascade.gate import Gate, retention, retention_interval
from rcc.cascade.preparation import move_biases_again
from rcc.cascade.records import Attempt, Baseline, Step
from rcc.errors import RccError, UserError, WorkError
from rcc.layers.units import non_finite
from rcc.measurement import Measurement, Metric
from rcc.measurement.paired import values_of
from rcc.memory import Meter
from rcc.models.adapter import Adapter
from rcc.stages.base import Stage, StageContext, StageReport

MOST_REASONS = 3
"""Reasons that are told of a step that touched nothing; the report has them all."""
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?![\w.])")
Validator = Callable[[Adapter], Measurement | float]


def step_seed(seed: int, step: Step, attempt: int) -> int:
    """The seed of one attempt: by its place in the run alone, so that a resumed run draws the same numbers."""
    digest = hashlib.sha256(f"{seed}/{step.index}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def attempt_step(
    number: int,
    stage: Stage,
    context: StageContext,
    model: Adapter,
    validator: Validator,
    baseline: Baseline,
    gate: Gate,
    dtype: torch.dtype,
    entropy: str,
    before: str,
) -> tuple[Attempt, StageReport | None]:
    """Apply `stage` to `model` in place and measure it once.

    `before` is the checksum of the model as it is. A stage that left it so cannot have failed the gate, whatever is
    left of the metric by now.

    Returns the attempt, with its problem where it did not pass, and the stage's report; the report is None
    when the stage raised or left a non-finite weight, so that the model must not be used.
    """
    report, size, measurement, kept, interval, problem = None, None, None, None, None, ""
    with Meter() as meter:
        try:
            applied = stage.apply(model, context)
            move_biases_again(model, baseline.prepared)
            refuse_non_finite(model, f"stage '{stage.label}' left")
            measurement, items = measure_items(model, validator)
            kept = retention(baseline.measurement.main, measurement.main)
            interval = retention_interval(baseline.measurement.main, baseline.items, items, gate.level)
            size = model_size(model, dtype, entropy)
            applied.facts["matrix_values"] = applied.account(model)
            if checksum(model.module) == before:
                applied.unchanged = why_unchanged(applied)
            problem, report = "" if applied.unchanged else gate.problem(kept, interval), applied
        except UserError:
            raise
        except RccError as error:
            problem = str(error)
        except Exception as error:
            problem = f"stage '{stage.label}': {type(error).__name__}: {error}"
    cost = (meter.seconds, meter.peak_bytes)
    return Attempt(number, stage.strength, *cost, size, measurement, kept, problem, interval), report


def why_unchanged(report: StageReport) -> str:
    """Why a stage that left every value as it was may have done so, from its own report."""
    if report.touched:
        return f"it came to the values that were there, in all {len(report.touched)} layers it touched"
    reasons = Counter(_NUMBER.sub("…", skipped.reason) for skipped in report.skipped).most_common()
    told = "; ".join(f"{reason} ({count})" for reason, count in reasons[:MOST_REASONS])
    more = f"; and {len(reasons) - MOST_REASONS} reasons more" if len(reasons) > MOST_REASONS else ""
    return f"it touched no layer: {told}{more}" if told else "it touched no layer"


def measure_dense(model: Adapter, validator: Validator, dtype: torch.dtype) -> Baseline:
    """The dense model before any stage: what everything later is held against, its bytes without entropy coding.

    Raises:
        UserError: it holds a weight that is not finite.
        WorkError: its primary metric is zero or not finite.
    """
    try:
        refuse_non_finite(model, "nothing was compressed: the dense model holds")
    except WorkError as error:
        raise UserError(f"{error}. Check the checkpoint it was loaded from.") from None
    with Meter() as meter:
        measurement, items = measure_items(model, validator)
    retention(measurement.main, measurement.main)
    return Baseline(measurement, model_size(model, dtype, "none"), meter.seconds, items)


def measure(model: Adapter, validator: Validator) -> Measurement:
    """Validate in evaluation mode and without gradients; details of single items are not kept. Raises as
    `measure_items`."""
    return measure_items(model, validator)[0]


def score_of(model: Adapter, validator: Validator) -> float:
    """The primary metric, better when higher. Raises as `measure_items`."""
    metric = measure(model, validator).main
    return metric.value if metric.higher_is_better else -metric.value


def measure_items(model: Adapter, validator: Validator) -> tuple[Measurement, tuple[float, ...]]:
    """`measure`, and what each item adds to the primary metric, where that is their mean; else nothing.

    Raises:
        UserError: the validator returned neither a `Measurement` nor a number.
    """
    model.eval()
    with torch.inference_mode():
        found = validator(model)
    if isinstance(found, int | float):
        return Measurement((Metric("score", float(found)),), "score"), ()
    if not isinstance(found, Measurement):
        raise UserError(
            f"the validator returned {type(found).__name__}; it must return a rcc.Measurement, or a number that is "
            "better when higher."
        )
    items = values_of(found).get(found.primary)
    return replace(found, details={}), () if items is None else tuple(items.tolist())


def refuse_non_finite(model: Adapter, who: str) -> None:
    """Refuse a model with a NaN or an infinity in a parameter, or a NaN in a buffer (masks hold infinities).

    Raises:
        WorkError: starts with `who` and names the layer, or the tensor, and its shape.
    """
    units = model.units()
    for unit, part in non_finite(units):
        raise WorkError(f"{who} a NaN or an infinity in layer {unit.name} {unit.shape} ({part})")
    # What a unit's form holds was just read. A norm's bias, or a parameter of a layer's own, is in no form.
    seen = {id(getattr(unit.module, part)) for unit in units if unit.kind != "norm" for part in parts_of(unit)}
    for name, parameter in model.module.named_parameters():
        if id(parameter) not in seen and parameter.is_floating_point() and not bool(torch.isfinite(parameter).all()):
            raise WorkError(f"{who} a NaN or an infinity in {name} {tuple(parameter.shape)}")
    for name, buffer in model.module.named_buffers():
        if buffer.is_floating_point() and bool(torch.isnan(buffer).any()):
            raise WorkError(f"{who} a NaN in {name} {tuple(buffer.shape)}")
