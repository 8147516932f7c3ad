"""Read the arguments of a sweep: those that hold in every job, and the values of the others as dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, OverrideType, Transformer

from rcc.sweeps.space import Dimension


def parted(texts: Sequence[str], loader: ConfigLoader) -> tuple[list[str], dict[str, str]]:
    """The arguments that hold in every job, and those with several values, by option; of two that set the same the
    later one counts, whichever it is."""
    fixed: dict[str, str] = {}
    swept: dict[str, str] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(texts)):
        text = str(override.input_line)
        option = text if override.type is OverrideType.EXTEND_LIST else _option(override)
        fixed.pop(option, None)
        swept.pop(option, None)
        (swept if override.is_sweep_override() else fixed)[option] = text
    return list(fixed.values()), swept


def dimensions(texts: Sequence[str], loader: ConfigLoader) -> list[Dimension]:
    """The dimensions of arguments with several values."""
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(list(texts))
    return [_dimension(override) for override in overrides]


def _option(override: Override) -> str:
    package = "" if override.package is None else f"@{override.package}"
    return f"{override.key_or_group}{package}"


def _dimension(override: Override) -> Dimension:
    option, key, value = _option(override), override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        return Dimension(option, key, low=value.start, high=value.end, log="log" in value.tags)
    choices: dict[Any, None] = dict.fromkeys(override.sweep_iterator(transformer=Transformer.encode))
    return Dimension(option, key, tuple(choices))
