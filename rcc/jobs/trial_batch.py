"""Put one batch through the model of a plan, so that what does not fit is told before a run is begun."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from rcc.errors import RccError, UserError
from rcc.jobs.compression import Compression
from rcc.layers.modes import evaluating
from rcc.reporting.formats import seconds_text


def trial_batch(job: Compression) -> str:
    """Load the model and its data, and say what came out of the first calibration batch; or why there is no data.

    Raises:
        UserError: the model cannot be loaded, the data has not what it reads, or its forward fails.
    """
    try:
        splits = job.data()
    except UserError as error:
        return f"No batch was put through the model, for there is no data: {' '.join(error.problems)}"
    model = job.model()
    batch = job.batch(model, splits.calibration)
    started = time.perf_counter()
    try:
        with torch.no_grad(), evaluating(model.module):
            outputs = model.outputs(batch)
    except RccError:
        raise
    except Exception as error:  # of the user's own network, or of a library in its words
        raise UserError(
            f"one batch did not go through the model: {type(error).__name__}: {error}. The batch holds"
            f" {_shapes(batch)}."
        ) from error
    taken = seconds_text(time.perf_counter() - started)
    broken = [name for name, each in outputs.items() if each.is_floating_point() and not bool(each.isfinite().all())]
    if broken:
        raise UserError(f"one batch went through the model and its outputs {', '.join(broken)} hold NaN or infinity.")
    return f"One batch went through the model in {taken}: {_shapes(batch)} gave {_shapes(outputs)}."


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
