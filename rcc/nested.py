"""Name the leaves of nested mappings by dotted paths, so that two of them can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every leaf under its dotted path. Nested options are never empty, so an empty mapping is a leaf too."""
    if not isinstance(value, Mapping) or not value:
        return {path: value}
    return {
        leaf: held
        for key, item in value.items()
        for leaf, held in leaves(item, f"{path}.{key}" if path else str(key)).items()
    }
