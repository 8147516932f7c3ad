"""Read conditions on fields, as `year>=2020 and label=dog`, and find the rows that meet them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcc.errors import UserError, unknown

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=|!=|=|<|>)\s*(\"[^\"]*\"|'[^']*'|[^\s\"']+)\s*")
_AND = re.compile(r"and\s", re.IGNORECASE)
TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True)
class Condition:
    """`name` `sign` `value`; a row that lacks the field meets none, but 'is not'."""

    name: str
    sign: str
    value: Any

    def met(self, column: NDArray[Any]) -> NDArray[np.bool_]:
        """(N,) whether each value of the column, an array of objects with None where a row lacks it, meets it."""
        compare = OPERATORS[self.sign]
        absent = self.sign == "!="
        return np.fromiter(
            (absent if each is None else compare(each, self.value) for each in column), bool, len(column)
        )


def read_filter(text: str, fields: Mapping[str, str]) -> list[Condition]:
    """The conditions of a filter, all of which are to be met. Texts with blanks stand in quotes.

    Args:
        fields: the type of each field that there is, see `rcc.store.manifest`.

    Raises:
        UserError: it cannot be read, asks for a field that no row has, or compares with a value of another type.
    """
    found, place, more = [], 0, True
    while more and (match := _CONDITION.match(text, place)):
        found.append(_condition(match[1], match[2], match[3], fields))
        joined = _AND.match(text, match.end())
        place, more = (match.end(), False) if joined is None else (joined.end(), True)
    if more or place != len(text):
        raise UserError(
            f"filter '{text}' cannot be read at '{text[place:]}': write <field><sign><value> with the signs"
            f" {' '.join(OPERATORS)}, joined by 'and', as in \"year>=2020 and label='red dog'\"."
        )
    return found


def _condition(name: str, sign: str, written: str, fields: Mapping[str, str]) -> Condition:
    if name not in fields:
        raise UserError(f"filter: {unknown('field', name, fields)}")
    kind, text = fields[name], written.strip("\"'")
    value: Any = text
    if kind == "number":
        try:
            value = float(text)
        except ValueError:
            raise UserError(f"filter: {name} is a number in this store, and '{text}' is none.") from None
    if kind == "truth":
        if text.lower() not in TRUTHS or sign not in ("=", "!="):
            raise UserError(f"filter: {name} is true or false in this store: write {name}=true or {name}=false.")
        value = TRUTHS[text.lower()]
    return Condition(name, sign, value)
