"""Refuse a cascade that cannot be run: without stages, in a wrong order, or without the data that stages learn from."""

from __future__ import annotations

from collections.abc import Sequence

from rcc.cascade.bytes.budget import Target
from rcc.cascade.bytes.filling import target_problems
from rcc.cascade.schedule import order_problems
from rcc.errors import UserError
from rcc.layers.model import Batch
from rcc.stages.base import Stage, TrainingData


def require_stages(stages: Sequence[Stage], target: Target | None) -> None:
    """Raises:
    UserError: there are none, their order is wrong, or they cannot be led to the target.
    """
    if not stages:
        raise UserError("the cascade has no stages: add one with add_stage(), or say stage=dare+nullu+alpha.")
    wrong = order_problems(stages)
    if target is not None:
        wrong += target_problems(stages)
    if wrong:
        raise UserError(*wrong)


def require_data(stages: Sequence[Stage], calibration: Sequence[Batch] | None, training: TrainingData | None) -> None:
    """Raises:
    UserError: a stage learns from data that is not there.
    """
    calibrated = [stage.label for stage in stages if stage.needs_calibration]
    if calibrated and not calibration:
        raise UserError(
            f"no calibration data for {', '.join(calibrated)}: pass calibration= batches, use a data= with a "
            "calibration split, or leave the stage out of stage=."
        )
    trained = [stage.label for stage in stages if stage.needs_training]
    if trained and training is None:
        raise UserError(
            f"no training data for {', '.join(trained)}: pass training=loader to run(), use a data= with a training"
            " split, or leave it out of the cascade."
        )
