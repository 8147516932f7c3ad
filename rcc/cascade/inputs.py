"""Reads the forms in which a pipeline's inputs may come: metrics and states of a model."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor

from rcc.artifact.on_demand import without_weights
from rcc.errors import UserError
from rcc.measurement import Measurement, Metric
from rcc.models.adapter import Adapter


def as_measurement(metrics: Measurement | Mapping[str, float] | float) -> Measurement:
    """A measurement of numbers by name, the first of them the primary one; or of one number, the 'score'.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(metrics, Measurement):
        return metrics
    if isinstance(metrics, int | float):
        metrics = {"score": metrics}
    if isinstance(metrics, Mapping) and metrics:
        found = tuple(Metric(str(name), float(value)) for name, value in metrics.items() if _is_number(value))
        if len(found) == len(metrics):
            return Measurement(found, found[0].name)
    raise UserError(
        f"metrics are {metrics!r}; they must be a rcc.Measurement, or numbers by name, better when higher and the"
        " primary one first, as {'accuracy': 0.91}."
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)


def with_state(adapter: Adapter, state: Mapping[str, Tensor]) -> Adapter:
    """The model of `adapter` with the tensors of `state` in place of its own; `adapter` stays as it is.

    Raises:
        UserError: the names or shapes are not those of the model as it is now.
    """
    twin = copy.copy(adapter)
    twin.module = without_weights(adapter.module)
    try:
        twin.module.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        found = " ".join(str(error).split()).rstrip(". ")
        raise UserError(
            f"model_state is no state dict of {type(adapter.module).__name__} as it is now: {found}. Give"
            " model.module.state_dict(), or the model itself."
        ) from None
    return twin
