"""Load data sets by name, imported only when asked for."""

from __future__ import annotations

from typing import Any

from rcc.data.splits import Splits
from rcc.plugins import build_named


def load_data(name: str, **options: Any) -> Splits:
    """The splits of the data set `name`, with the options of its loader.

    Raises:
        UserError: an unknown name or option, or an option the loader refuses.
    """
    splits: Splits = build_named("data", name, Splits, options)
    return splits
