"""items.json: what every evaluator found for single images, for statistics after the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from rcc.atomic import write_text
from rcc.measurement import Measurement

FILE = "items.json"


def write_items(directory: Path, data_fingerprint: str, models: Mapping[str, Measurement]) -> Path:
    """Write `directory`/items.json in one instant: by model and evaluator, lists in the order of the split."""
    path = directory / FILE
    split = next(iter(models.values())).split
    content = {
        "split": split,
        "data_fingerprint": data_fingerprint,
        "models": {name: measured.details for name, measured in models.items()},
    }
    write_text(path, json.dumps(content, separators=(",", ":")) + "\n")
    return path
