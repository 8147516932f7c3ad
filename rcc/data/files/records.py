"""Take values of the kind that is wanted out of the records of files, and say where another kind stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
KINDS = {str: "a text", int: "a whole number", list: "a list", dict: "a record"}
NOT_LAID_OUT = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Raised by the reading of a file of another layout than was thought."""


def taken(record: Any, key: str, kind: type[T], where: str) -> T:
    """The value of `key` in a record, of the `kind` that is wanted.

    Args:
        where: how a message calls the record, as 'image 3'.

    Raises:
        ValueError: no record, no such key, a value of another kind, or a text with what is no character.
    """
    if not isinstance(record, Mapping):
        raise ValueError(f"{where} is {told(record)} and no record")
    if key not in record:
        raise ValueError(f"{where} has no '{key}'")
    return of_kind(record[key], kind, f"'{key}' of {where}")


def of_kind(value: Any, kind: type[T], where: str) -> T:
    """`value`, if it is of the kind that is wanted.

    Raises:
        ValueError: it is not, or is a text with what is no character.
    """
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise ValueError(f"{where} is {told(value)} and not {KINDS.get(kind, kind.__name__)}")
    if isinstance(value, str):
        _check_characters(value, where)
    return value


def sentences(value: Any, where: str = "the caption") -> list[str]:
    """The captions in one cell: a text, a record with one under 'raw', or a list of either; no blank ones, none in a
    cell that is empty.

    Raises:
        ValueError: anything else stands there, or a text holds what is no character.
    """
    if isinstance(value, dict):
        value = value.get("raw")
    if isinstance(value, (list, tuple)):
        return [text for each in value for text in sentences(each, where)]
    if value is None:
        return []
    text = of_kind(value, str, where).strip()
    return [text] if text else []


def told(value: Any) -> str:
    """A value for a message, cut where it is long, with its kind."""
    written = ascii(value)
    return f"{written if len(written) <= 60 else written[:60] + '…'} ({type(value).__name__})"


def reason(error: BaseException) -> str:
    """What an error of `NOT_LAID_OUT` says; its kind too, where it is not one of this file's."""
    if type(error) is ValueError:
        return str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return f"{type(error).__name__}: {error}"


def _check_characters(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} holds {text[error.start]!a}, half of a pair of surrogates") from error
