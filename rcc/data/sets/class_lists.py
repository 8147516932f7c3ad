"""Read the class names and the prompts of published data sets, as papers use them.

Source of names and templates: Radford et al. (2021); each file names its own.
"""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent


def class_names(dataset: str) -> tuple[str, ...]:
    """The class names of 'imagenet', 'cifar10' or 'cifar100' in the order of their labels."""
    names = _read("classes", dataset)["classes"]
    return tuple(names.values() if isinstance(names, dict) else names)


def wnids() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's classes, in the order of their labels."""
    return tuple(_read("classes", "imagenet")["classes"])


def templates(dataset: str) -> tuple[str, ...]:
    """The 80 templates of 'imagenet' or the 18 of 'cifar'; '{}' stands for the class name."""
    return tuple(_read("prompts", dataset)["templates"])


def _read(folder: str, name: str) -> dict[str, list[str] | dict[str, str]]:
    content: dict[str, list[str] | dict[str, str]] = json.loads(
        (HERE / folder / f"{name}.json").read_text(encoding="utf-8")
    )
    return content
