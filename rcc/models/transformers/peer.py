"""Load a checkpoint as the library itself does, to have its time beside ours."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import torch

from rcc.errors import UserError
from rcc.models.transformers.checkpoint import quiet
from rcc.models.transformers.library import classes_of
from rcc.models.transformers.processors import read_processors


def library_seconds(path: Path) -> float | None:
    """Seconds that `from_pretrained` takes for the model of a checkpoint directory, its processors, and one look at
    every value, which the library leaves in its file until then: the second of two loads. None of what is no checkpoint
    of the library.
    """
    if not (path / "config.json").is_file():
        return None
    try:
        _, model_class = classes_of(str(path))
    except UserError:
        return None
    seconds = 0.0
    for _ in range(2):
        started = perf_counter()
        with quiet(), torch.no_grad():
            model = model_class.from_pretrained(path, use_safetensors=True, local_files_only=True)
            read_processors(str(path), model.config)
            for parameter in model.parameters():
                parameter.sum()
        seconds = perf_counter() - started
    return seconds
