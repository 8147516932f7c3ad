"""Reading `key=value` arguments: what each one sets, and every value a sweep would give it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, OverrideType, Quote, QuotedString
from hydra.errors import OverrideParseException

from rcc.command_line import key_of
from rcc.shipped import HYDRA_GROUP

VERBATIM = (
    "resume", "artifact", "model.path", "data.path", "data.images", "data.names", "stage.*.base",
    "stage.*.paired_features", "eval.*.embeddings", "eval.*.clip_score_model", "hydra.run.dir", "hydra.sweep.dir",
    "logger.*.project", "logger.*.entity", "logger.*.group", "store.path", "query", "filter", "out", "runs",
    "serve.search",
)  # fmt: skip
"""Options that are paths or free text, as patterns: outside a sweep all after the first '=' is their value."""
LISTED = ("artifact", "runs", "serve.search")
"""Those that may be a list in brackets."""
_PLAIN = re.compile(r"[\w./:@%+-]*", re.ASCII)  # the grammar takes no other letters outside quotes
LOGGER = "logger"
MOST_VALUES = 256
"""Values of one sweep that are looked at; a longer one is checked on its first."""


@dataclass(frozen=True)
class Argument:
    """One argument. `values`: those of a sweep (of an interval its two ends), or the one value there is."""

    text: str
    key: str
    values: tuple[str, ...]
    swept: bool
    removes: bool
    extends: bool
    listed: bool

    @property
    def hydras(self) -> bool:
        """Whether it sets an option of Hydra's and not of ours."""
        return self.key.replace("/", ".").split(".")[0] == HYDRA_GROUP

    def setting(self, value: str) -> str:
        """The argument with one value, written so that an unknown key is added and can be seen."""
        return self.text if self.removes or self.extends else f"++{self.key}={value}"


def read(texts: Iterable[str], loader: ConfigLoader) -> tuple[list[Argument], list[str]]:
    """The arguments that can be read, and what is wrong with those that cannot."""
    parser = OverridesParser.create(config_loader=loader)
    arguments, problems = [], []
    for text in texts:
        try:
            arguments.append(_argument(text, parser.parse_overrides([text])[0]))
        except (OverrideParseException, ValueError) as error:
            problems.append(f"cannot read '{text}': {_reason(text, error)}")
    return arguments, problems


def of_sweeper(params: Mapping[str, Any] | None) -> list[str]:
    """A sweeper's `params` as arguments."""
    return [f"{key}={value}" for key, value in (params or {}).items()]


def without(arguments: Sequence[str], key: str) -> list[str]:
    """The arguments that do not set `key`."""
    return [text for text in arguments if key_of(text) != key]


def quoted(text: str) -> str:
    """A value in quotes, with which any path is one word of the grammar."""
    return QuotedString(text, Quote.double).with_quotes()


def unquoted(value: str) -> str:
    """The text that a value in quotes stands for in the grammar; any other value as it is."""
    if len(value) < 2 or value[0] not in "'\"" or value[-1] != value[0]:
        return value
    quote = value[0]
    return re.sub(rf"\\+(?={quote}|$)", lambda slashes: slashes[0][: len(slashes[0]) // 2], value[1:-1])


def of_the_logger(texts: Sequence[str]) -> list[str]:
    """The arguments with options of the logger under its label: where one alone is chosen, `logger.mode=offline` is
    `logger.wandb.mode=offline`."""
    chosen = [text.partition("=")[2] for text in texts if key_of(text) == LOGGER]
    if len(chosen) != 1 or not chosen[0].isidentifier():
        return list(texts)
    start, label = f"{LOGGER}.", f"{LOGGER}.{chosen[0]}"
    return [
        f"{label}.{text.removeprefix(start)}"
        if text.startswith(start) and not key_of(text).startswith(f"{label}.") and key_of(text).count(".") == 1
        else text
        for text in texts
    ]


def verbatim(text: str) -> str:
    """An argument of `VERBATIM` with its value quoted for the grammar, in which `a, b` is a sweep of two values and
    `a=b` an error; any other as it is.

    What is quoted already, an interpolation, and a list of artifacts or runs say what they mean in the grammar.
    """
    key, _, value = text.partition("=")
    if not _is_verbatim(key.lstrip("+")) or _PLAIN.fullmatch(value) or value.startswith("~") or "${" in value:
        return text
    in_quotes = len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]
    is_list = key.lstrip("+") in LISTED and value.startswith("[") and value.endswith("]") and not _exists(value)
    return text if in_quotes or is_list else f"{key}={quoted(value)}"


def _is_verbatim(key: str) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in VERBATIM)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _argument(text: str, override: Override) -> Argument:
    swept = override.is_sweep_override()
    value = override.value()
    if isinstance(value, IntervalSweep):
        values: tuple[str, ...] = (str(value.start), str(value.end))
    elif swept:
        values = tuple(islice(override.sweep_string_iterator(), MOST_VALUES))
    elif override.is_delete():
        values = ()
    else:
        values = (override.get_value_element_as_str(),)
    key = override.key_or_group if override.package is None else f"{override.key_or_group}@{override.package}"
    extends = override.type is OverrideType.EXTEND_LIST
    return Argument(text, key, values, swept, override.is_delete(), extends, isinstance(value, list))


def _reason(text: str, error: Exception) -> str:
    if "=" not in text:
        return "an argument is key=value, such as gate.threshold=0.9."
    if "${" in text and "}" not in text.partition("${")[2]:
        return "'${' begins an interpolation, as in ${oc.env:HOME}, and no '}' ends it; no value or path can hold it."
    if "=~" in text or "[~" in text or ",~" in text:
        return "no shell expands '~' there; write $HOME in its place, as in model.path=$HOME/models/clip."
    lines = [line for line in str(error).splitlines() if not line.startswith(("Error ", "See "))]
    return f"{lines[0] if lines else error}. Quote a value with spaces or special characters: 'key=\"a b\"'."
