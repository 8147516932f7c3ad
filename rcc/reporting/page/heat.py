"""Lay out what each layer came to as a map of blocks by kinds of layers, a measure at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rcc.reporting.formats import bytes_text, share_text
from rcc.reporting.recorded.numbers import StepNumbers, Values

LEVELS = 10
MOST_BLOCKS, MOST_KINDS = 64, 16
"""Rows and columns that are drawn; models with more blocks or kinds than that get the first ones, and a sentence."""
ERRORS = ("output_error", "error_after")
MEASURES = {
    "sparsity": "share of zeros",
    "rank": "rank of the low-rank part",
    "bits": "bits a value",
    "error": "error of the outputs, relative to the dense ones; colours by its logarithm",
    "bytes": "bytes, as the stage that wrote last counted them",
}


@dataclass(frozen=True)
class Tile:
    """A layer: what is written, its level from 0 to `LEVELS`, and its name. An empty one stands for no layer."""

    text: str = ""
    level: int = 0
    name: str = ""


@dataclass(frozen=True)
class HeatMap:
    """A measure of all layers: those of numbered blocks as a map, `others` one by one."""

    measure: str
    meaning: str
    kinds: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Tile, ...]], ...]
    others: tuple[Tile, ...] = ()
    left_out: int = 0


def layers_of(steps: Sequence[StepNumbers]) -> dict[str, Values]:
    """Of each layer the last value of each measure, by steps that were kept."""
    found: dict[str, Values] = {}
    for step in steps:
        if not step.kept:
            continue
        for layer, values in step.layers.items():
            told = dict(values)
            errors = [told[name] for name in ERRORS if name in told]
            told |= {"error": errors[-1]} if errors else {}
            if "bytes_after" in told:
                told["bytes"] = told["bytes_after"]
            found.setdefault(layer, {}).update({name: told[name] for name in MEASURES if name in told})
    return found


def heat_maps(layers: Mapping[str, Values]) -> list[HeatMap]:
    """A map for each measure that any layer has."""
    found = []
    for measure, meaning in MEASURES.items():
        values = {layer: told[measure] for layer, told in layers.items() if measure in told}
        if values:
            found.append(_map(measure, meaning, values))
    return found


def placed(layer: str) -> tuple[str, str]:
    """The block and the kind of a layer: what stands up to the last number within its name, and behind it. A layer of
    no numbered block has none."""
    parts = layer.split(".")
    numbers = [place for place, part in enumerate(parts[:-1]) if part.isdecimal()]
    cut = numbers[-1] + 1 if numbers else 0
    return ".".join(parts[:cut]), ".".join(parts[cut:])


def _map(measure: str, meaning: str, values: Mapping[str, float]) -> HeatMap:
    every = list(values.values())
    tiles = {
        placed(layer): Tile(_text(measure, value), _level(measure, value, every), layer)
        for layer, value in values.items()
    }
    blocks = list(dict.fromkeys(block for block, _ in tiles if block))[:MOST_BLOCKS]
    kinds = list(dict.fromkeys(kind for block, kind in tiles if block))[:MOST_KINDS]
    rows = tuple((block, tuple(tiles.get((block, kind), Tile()) for kind in kinds)) for block in blocks)
    others = tuple(tile for (block, _), tile in tiles.items() if not block)[:MOST_BLOCKS]
    drawn = len(others) + sum(bool(tile.name) for _, row in rows for tile in row)
    return HeatMap(measure, meaning, tuple(kinds), rows, others, len(values) - drawn)


def _level(measure: str, value: float, values: Sequence[float]) -> int:
    """Between the least and the largest: of errors by their logarithm, of shares on their own scale, else from 0."""
    low, high = 0.0, 1.0 if measure == "sparsity" else max(values)
    if measure == "error":
        positive = [math.log(each) for each in values if each > 0] or [0.0]
        low, high = min(positive), max(positive)
        value = math.log(value) if value > 0 else low
    share = (value - low) / (high - low) if high > low else 0.5
    return round(LEVELS * min(max(share, 0.0), 1.0))


def _text(measure: str, value: float) -> str:
    if measure == "sparsity":
        return share_text(value, 1)
    if measure == "bytes":
        return bytes_text(round(value))
    return f"{value:.2g}" if measure == "error" else f"{value:g}"
