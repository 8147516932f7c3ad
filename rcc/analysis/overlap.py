"""Compare each layer's row space before and after a stage, by its low-rank parts.

The row space of U V is what the layer reads of its input; its null space is the complement, so that the
angles between two null spaces are, apart from zeros, those between the two row spaces.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rcc.layers.units import Unit
from rcc.ops.subspace import compare, row_basis

CRITICAL = 0.7
"""Excess overlap (0: random, 1: equal) above which two stages' choices are critical; the specification's number."""


def row_spaces(units: Sequence[Unit]) -> dict[str, Tensor]:
    """Orthonormal basis (k, in) of the row space of V, by unit, for those that have a low-rank part.

    In V's dtype, by QR in float64; k is V's numerical rank.
    """
    spaces = {}
    for unit in units:
        right = unit.read().right
        if right is not None:
            spaces[unit.name] = row_basis(right.detach()).to(right.dtype)
    return spaces


def overlap(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], chosen_before: Collection[str] = ()
) -> dict[str, Any]:
    """Compare the row spaces that a stage changed, layer by layer before and after it, as plain data.

    Args:
        chosen_before: the layers whose row space the stage chose after another stage had. A stage that prunes, refits
            or scales the low-rank part that it found, and later rounds of one stage, stay near the space on purpose.

    Returns:
        'layers': by name 'overlap' (mean cos² of the principal angles), 'baseline' (its expectation for
            random spaces), 'excess' (overlap corrected for chance), 'distance' (Grassmann, in [0, 1]),
            'widths', 'inputs' and 'reason' (empty, or why something is None).
        'mean_overlap', 'mean_baseline', 'mean_distance', 'max_overlap': over the layers where they are defined.
        'critical': names of the layers of `chosen_before` whose excess is above 0.7, highest first: two stages chose
            nearly the same inputs there, and one of them would have done.
    """
    names = [name for name in sorted(before.keys() | after.keys()) if not _untouched(before.get(name), after.get(name))]
    layers = {name: _layer(before.get(name), after.get(name)) for name in names}
    critical = [name for name in names if name in chosen_before and (layers[name]["excess"] or 0.0) > CRITICAL]
    critical.sort(key=lambda name: -layers[name]["excess"])
    return {"layers": layers, **_aggregate(layers.values()), "critical": critical}


def summarise(steps: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The same means over all layers of all steps, from what `overlap` gave for each, by the step's name.

    'critical' lists the pairs as 'step: layer', in the order of the steps. Steps without low-rank parts add
    nothing.
    """
    layers = [layer for step in steps.values() for layer in step.get("layers", {}).values()]
    critical = [f"{name}: {layer}" for name, step in steps.items() for layer in step.get("critical", ())]
    return {**_aggregate(layers), "critical": critical}


def _aggregate(layers: Collection[Mapping[str, Any]]) -> dict[str, float | None]:
    defined = {
        key: [layer[key] for layer in layers if layer[key] is not None] for key in ("overlap", "baseline", "distance")
    }
    means = {f"mean_{key}": math.fsum(found) / len(found) if found else None for key, found in defined.items()}
    return {**means, "max_overlap": max(defined["overlap"], default=None)}


def _untouched(before: Tensor | None, after: Tensor | None) -> bool:
    """Whether a stage left V as it was; there is nothing to learn from comparing it with itself."""
    return before is not None and after is not None and torch.equal(before, after)


def _layer(before: Tensor | None, after: Tensor | None) -> dict[str, Any]:
    if before is None or after is None:
        side = "before" if before is None else "after"
        undefined: dict[str, Any] = dict.fromkeys(("overlap", "baseline", "excess", "distance"))
        present = after if before is None else before
        assert present is not None
        widths = [0 if space is None else space.shape[0] for space in (before, after)]
        reason = f"no low-rank part {side} the stage"
        return {**undefined, "widths": widths, "inputs": present.shape[1], "reason": reason}
    found = compare(before, after)
    return {
        "overlap": _number(found.overlap),
        "baseline": _number(found.baseline),
        "excess": _number(found.excess),
        "distance": _number(found.distance),
        "widths": list(found.widths),
        "inputs": found.dimension,
        "reason": found.reason,
    }


def _number(value: float) -> float | None:
    """JSON has no NaN: undefined is None."""
    return None if math.isnan(value) else value
