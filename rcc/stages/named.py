"""Make stages from plain descriptions: {"type": "dare", "target_sparsity": 0.9}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rcc import shipped
from rcc.errors import UserError
from rcc.plugins import build_named
from rcc.stages.base import Stage

TYPE_KEYS = ("type", "name")


def stage_of(description: Stage | Mapping[str, Any]) -> Stage:
    """The stage that a mapping describes: its `type` (or `name`), a `label` if it is to have one, and its options.

    A stage is returned as it is.

    Raises:
        UserError: it is neither, its type or an option is unknown, or an option's value is refused.
    """
    if isinstance(description, Stage):
        return description
    wanted = (
        f"give a stage, or its type and options, as {{'type': 'dare', 'target_sparsity': 0.9}}; types are"
        f" {', '.join(shipped.choices(shipped.config_dir(), 'stage'))}."
    )
    if not isinstance(description, Mapping):
        raise UserError(f"a stage was given as {type(description).__name__}, {description!r}: {wanted}")
    options = dict(description)
    types = [options.pop(key) for key in TYPE_KEYS if key in options]
    if len(types) != 1:
        raise UserError(f"a stage was given as {dict(description)!r}, with {len(types)} types: {wanted}")
    label = str(options.pop("label", ""))
    stage: Stage = build_named("stage", str(types[0]), Stage, options)
    return stage.labelled(label) if label else stage
