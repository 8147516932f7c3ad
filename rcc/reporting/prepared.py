"""Say in words what was rewritten of the dense model before its first stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rcc.cascade.records import CANONICAL, FOLDED, KEYS, VALUES

_KINDS = {
    FOLDED: "batch norms folded into the layers before them",
    CANONICAL: "batch norms given constant statistics",
    KEYS: "biases of attention keys dropped",
    VALUES: "biases of attention values moved into those of outputs",
}


def prepared_text(prepared: Mapping[str, Any]) -> str:
    """One sentence; empty where nothing was rewritten."""
    done = [f"{len(prepared[kind])} {what}" for kind, what in _KINDS.items() if kind in prepared]
    if not done:
        return ""
    return (
        f"Rewritten before the first stage: {', '.join(done)}; {prepared['values_gone']:,} values fewer to store,"
        f" outputs within {prepared['output_change']:.1e} of the largest."
    )


def left_text(prepared: Mapping[str, Any]) -> list[str]:
    """A line for each norm or bias that was left, wholly or in part."""
    return [f"{name}: {reason}" for name, reason in prepared.get("left_alone", {}).items()]
