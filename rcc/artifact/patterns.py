"""Factor lines of modules whose names differ in some parts into one pattern, and expand patterns within bounds.

    "encoder.layers.{0..2}.{q,v}":{"bias":"8","weight":["8x8 gaps","9 9+18 …","7 7+14 …","…","…","…","…"]}

stands for six modules, the last part of a name changing fastest. An attribute has one line for all of them, or the
words that their lines begin with, then the rest of each.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from rcc.errors import Problems

Lines = dict[str, dict[str, object]]
"""By module, by attribute."""
EXPANSION = 64
"""Characters of names that a byte of the manifest may stand for; each name counts as `EXPANSION` more, so that there
are at most as many tensors as bytes. A stored matrix takes thirty bytes and has few vectors beside it."""
LEAST_RANGE = 3
_NUMBER = "(?:0|[1-9][0-9]{0,5})"
_PART = re.compile(
    rf"(?:\{{(?P<first>{_NUMBER})\.\.(?P<last>{_NUMBER})\}}"
    r"|\{(?P<names>[^{},.]+(?:,[^{},.]+)+)\}"
    r"|(?P<name>(?:[^{}.]|\{\{|\}\})*))(?P<end>\.|\Z)"
)
_Parts = tuple[tuple[str, ...], ...]
_Signature = tuple[tuple[str, str], ...]


def factored(modules: Mapping[str, Mapping[str, str]]) -> Lines:
    """The lines of `modules`, those together whose names differ in parts, and whose attributes and shapes do not."""
    groups: list[tuple[_Parts, _Signature]] = [
        (tuple((part,) for part in name.split(".")), tuple((key, line.split(" ")[0]) for key, line in lines.items()))
        for name, lines in modules.items()
    ]
    for place in reversed(range(max((len(parts) for parts, _ in groups), default=0))):
        groups = _merged(groups, place)
    return {_pattern(parts): _together(parts, [key for key, _ in signature], modules) for parts, signature in groups}


def justified(modules: Mapping[str, Mapping[str, object]], nbytes: int) -> bool:
    """Whether a manifest of `nbytes` may stand for as many names."""
    return sum(_cost(len(name), lines, 1) for name, lines in modules.items()) <= EXPANSION * nbytes


def expanded(patterns: Mapping[str, Mapping[str, object]], nbytes: int, problems: Problems) -> Lines:
    """The lines of all modules that `patterns` stand for; what is wrong with them is noted, and left out.

    Args:
        nbytes: of the manifest, which bound how many names are made of it.
    """
    found: Lines = {}
    left = EXPANSION * nbytes
    for pattern, lines in patterns.items():
        parts = _parsed(pattern)
        if not problems.check(parts is not None, f"modules: {pattern[:80]!r} is no pattern of names."):
            continue
        assert parts is not None
        count = math.prod(map(len, parts))
        left -= _cost(sum(1 + max(map(len, part)) for part in parts), lines, count)
        if not problems.check(
            left >= 0, f"modules: {pattern[:80]!r} stands for {count} modules, more than the manifest's bytes justify."
        ):
            return found
        columns = {key: _column(pattern, key, line, count, problems) for key, line in lines.items()}
        for number, names in enumerate(itertools.product(*parts)):
            name = ".".join(names)
            if problems.check(name not in found, f"modules: {pattern[:80]!r} names '{name}' a second time."):
                found[name] = {key: column[number] for key, column in columns.items()}
    return found


def _merged(groups: Iterable[tuple[_Parts, _Signature]], place: int) -> list[tuple[_Parts, _Signature]]:
    """The groups, those as one that differ in the part at `place` alone."""
    alike: dict[tuple[_Parts, _Parts, _Signature] | int, list[tuple[_Parts, _Signature]]] = {}
    for number, (parts, signature) in enumerate(groups):
        plain = place < len(parts) and all(name and not set("{},") & set(name) for name in parts[place])
        alike.setdefault((parts[:place], parts[place + 1 :], signature) if plain else number, []).append(
            (parts, signature)
        )
    together = []
    for members in alike.values():
        parts, signature = members[0]
        if len(members) > 1:
            names = sorted((name for other, _ in members for name in other[place]), key=_order)
            parts = (*parts[:place], tuple(names), *parts[place + 1 :])
        together.append((parts, signature))
    return together


def _order(name: str) -> tuple[bool, int, str]:
    """Numbers by their size, then names."""
    number = int(name) if re.fullmatch(_NUMBER, name) else -1
    return number < 0, number, name


def _pattern(parts: _Parts) -> str:
    return ".".join(map(_part, parts))


def _part(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0].replace("{", "{{").replace("}", "}}")
    if len(names) >= LEAST_RANGE and all(re.fullmatch(_NUMBER, name) for name in names):
        first, last = int(names[0]), int(names[-1])
        if list(names) == [str(number) for number in range(first, last + 1)]:
            return f"{{{first}..{last}}}"
    return f"{{{','.join(names)}}}"


def _together(parts: _Parts, keys: Sequence[str], modules: Mapping[str, Mapping[str, str]]) -> dict[str, object]:
    members = [modules[".".join(names)] for names in itertools.product(*parts)]
    return {key: _lines([member[key].split(" ") for member in members]) for key in keys}


def _lines(words: Sequence[Sequence[str]]) -> object:
    """One line, where all are alike; else the words they begin with, and the rest of each."""
    if all(line == words[0] for line in words):
        return " ".join(words[0])
    alike = 0
    for column in zip(*words, strict=False):
        if len(set(column)) > 1:
            break
        alike += 1
    return [" ".join(words[0][:alike]), *(" ".join(line[alike:]) for line in words)]


def _parsed(pattern: str) -> list[Sequence[str]] | None:
    """For each part of a name what it may be; None of what is no pattern."""
    parts: list[Sequence[str]] = []
    place, end = 0, "."
    while end == ".":
        found = _PART.match(pattern, place)
        if found is None:
            return None
        place, end = found.end(), found["end"]
        if found["first"] is not None:
            numbers = range(int(found["first"]), int(found["last"]) + 1)
            if len(numbers) < 2:
                return None
            parts.append([str(number) for number in numbers])
        elif found["names"] is not None:
            parts.append(found["names"].split(","))
        else:
            parts.append([found["name"].replace("{{", "{").replace("}}", "}")])
    return parts


def _cost(longest: int, lines: Mapping[str, object], count: int) -> int:
    """What the tensors of `count` modules take of `EXPANSION` characters for each byte."""
    return count * sum(longest + 1 + len(key) + EXPANSION for key in lines or ("",))


def _column(pattern: str, key: str, line: object, count: int, problems: Problems) -> Sequence[object]:
    """The line of an attribute for each of `count` modules."""
    if count == 1 or not isinstance(line, list):
        return [line] * count
    texts = all(isinstance(part, str) for part in line)
    if not problems.check(
        texts and len(line) == 1 + count,
        f"modules: {pattern[:80]!r} stands for {count} modules, and '{key}' is no beginning and {count} rests of"
        " lines.",
    ):
        return [""] * count
    return [" ".join(filter(None, (line[0], rest))) for rest in line[1:]]
