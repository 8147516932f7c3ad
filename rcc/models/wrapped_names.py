"""Recognise checkpoints that were saved from a wrapped model, by the prefix that all their names share."""

from __future__ import annotations

import logging
from collections.abc import Collection

WRAPPERS = {"module.": "torch.nn.DataParallel", "_orig_mod.": "torch.compile"}
"""The prefixes that wrappers put before every name of a state dict."""

log = logging.getLogger(__name__)


def wrapper_prefix(names: Collection[str], wanted: Collection[str] = ()) -> str:
    """What a wrapper, or several, put before all of `names`; empty where there is none.

    Args:
        wanted: the names of the model, where they are known: what all of these begin with is no wrapper's.
    """
    return _common(names).removesuffix(_common(wanted))


def _common(names: Collection[str]) -> str:
    prefix = ""
    while names:
        longer = [f"{prefix}{one}" for one in WRAPPERS if all(name.startswith(f"{prefix}{one}") for name in names)]
        if not longer:
            break
        prefix = longer[0]
    return prefix


def say_stripped(path: str, prefix: str) -> None:
    """Say that the names of the checkpoint `path` are read without `prefix`."""
    log.warning(
        "'%s': every name begins with '%s', as a model in a wrapper (%s) saves it; read without that.",
        path, prefix, ", ".join(tool for part, tool in WRAPPERS.items() if part in prefix),
    )  # fmt: skip
