"""Check rows before they are written: ids, vectors, and fields whose types stay what they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcc.errors import Problems, UserError, listed, text_fault

KINDS = ("clip", "vision", "text", "audio")
"""Of what the vectors of a store are: of CLIP's shared space, or of one kind of input alone."""
ID, SCORE = "id", "score"
LONGEST_ID = 4096
TYPES: dict[type, str] = {bool: "truth", int: "number", float: "number", str: "text"}

Vectors = NDArray[np.float32]
Fields = Mapping[str, Any]


def unit_vectors(what: str, vectors: Any, dimensions: int | None) -> Vectors:
    """(N, D) float32 vectors of length 1.

    Raises:
        UserError: another shape, no row, or one that is zero or not finite; the first such row is named.
    """
    try:
        rows = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} are no array of numbers: {error}.") from error
    if rows.ndim != 2 or rows.size == 0:
        raise UserError(f"{what} have shape {rows.shape}; they must be (items, dimensions), one item or more.")
    if dimensions is not None and rows.shape[1] != dimensions:
        raise UserError(
            f"{what} have {rows.shape[1]} dimensions and the store's have {dimensions}: they are of another model."
        )
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    sound = np.isfinite(lengths) & (lengths > 0)
    if not sound.all():
        first = int(np.argmin(sound[:, 0]))
        raise UserError(f"{what}: row {first} is zero or not finite and points nowhere. Leave it out.")
    return rows / lengths


def checked_ids(ids: Sequence[str] | str, count: int) -> list[str]:
    """The ids, one a vector.

    Raises:
        UserError: another number of them, one twice, or one that is no text.
    """
    found = [ids] if isinstance(ids, str) else list(ids)
    problems = Problems("ids")
    problems.check(len(found) == count, f"there are {len(found)} for {count} vectors.")
    for place, each in enumerate(found):
        sound = isinstance(each, str) and 0 < len(each) <= LONGEST_ID and not text_fault(each)
        if not problems.check(sound, f"item {place} is {each!a:.80}; an id is a text of 1 to {LONGEST_ID} characters."):
            break
    problems.done()
    repeated = [each for each, count in Counter(found).items() if count > 1]
    problems.check(not repeated, f"{listed(repeated)} come more than once.")
    problems.done()
    return found


def checked_fields(
    fields: Sequence[Fields] | None, count: int, known: Mapping[str, str]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The fields of each row, and the types of all fields from then on. A field that is None is one that a row lacks.

    Raises:
        UserError: another number of rows, or a value of another type than the field has.
    """
    given = [{} for _ in range(count)] if fields is None else list(fields)
    problems, types = Problems("fields"), dict(known)
    problems.check(len(given) == count, f"there are {len(given)} rows of them for {count} vectors.")
    problems.done()
    rows = []
    for place, row in enumerate(given):
        if not problems.check(isinstance(row, Mapping), f"row {place} is {type(row).__name__}; give names and values."):
            break
        kept = {name: value for name, value in row.items() if value is not None}
        for name, value in kept.items():
            fault = _fault(name, value, types)
            problems.check(not fault, f"row {place}: {fault}")
        if problems.found:
            break
        rows.append(kept)
    problems.done()
    return rows, types


def _fault(name: Any, value: Any, types: dict[str, str]) -> str:
    """What is wrong with a field of a row; where nothing is, its type is noted in `types`."""
    if not isinstance(name, str) or not name.isidentifier() or name in (ID, SCORE):
        return f"{name!a:.80} is no name of a field: letters, digits and underscores, and neither 'id' nor 'score'."
    kind = TYPES.get(type(value))
    if kind is None or (isinstance(value, float) and not np.isfinite(value)) or (kind == "text" and text_fault(value)):
        return f"{name} is {value!a:.80}; a field is a text, a finite number, or true or false."
    if types.setdefault(name, kind) != kind:
        return f"{name} is {value!a:.80}, and in this store it is a {types[name]}."
    return ""
