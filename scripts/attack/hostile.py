"""Draw hostile values: numbers at and beyond every limit, text that is no name, structures where a scalar is meant."""

from __future__ import annotations

import random
from typing import Any

NUMBERS = (0, -1, 1, 2, 7, 10**9, 10**20, -(10**20), 2**31, 2**63, 2**64, 0.5, -0.5, 1e-300, 1e20, 1e308)
WORDS = ("null", "true", "false", "nan", "inf", "-inf", ".nan", ".inf", "abc", "none", "1e5000", "0x10", "1_000", "--")
TEXTS = (
    "", " ", "my model", "a,b", "a=b", "${oc.env:HOME}", "${x", "${.}", "[", "]", "{}", "{a:1}", "'", '"', "\\", "#",
    "../../etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/mem", "~", "~root", "é", "日本語", "\u202e", "a" * 300,
    "a/" * 3000, "con", "-", "*", "?", "os:system", "builtins:eval", "$(touch owned)", "`touch owned`", ";", "|", "\t",
)  # fmt: skip
STRUCTURES = ("[]", "[1]", "[a,b]", "[null]", "{}", "{a:1}", "[[[]]]", "{a:{b:[1]}}", "[1,a,null,1.5]")


def argument(source: random.Random) -> str:
    """A value as it stands on a command line after the equals sign."""
    kind = source.randrange(5)
    if kind == 0:
        return str(source.choice(NUMBERS))
    if kind == 1:
        return source.choice(WORDS)
    if kind == 2:
        return source.choice(STRUCTURES)
    if kind == 3:
        return source.choice(TEXTS)
    return "".join(chr(source.choice((*range(32, 127), 0xE9, 0x4E2D, 0x1F642))) for _ in range(source.randrange(1, 12)))


def value(source: random.Random) -> Any:
    """A value of JSON."""
    kind = source.randrange(7)
    if kind == 0:
        return source.choice(NUMBERS)
    if kind == 1:
        return source.choice((None, True, False, float("inf"), float("nan")))
    if kind == 2:
        return source.choice(([], {}, [1], {"a": 1}, [None], [[]], ["x"] * 50))
    if kind == 3:
        nested: Any = 0
        for _ in range(source.choice((3, 90))):
            nested = [nested]
        return nested
    return source.choice(TEXTS)


def changed(source: random.Random, data: Any) -> tuple[Any, str]:
    """JSON data with one place of it made hostile, and a description of the place."""
    place, where = data, "$"
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return value(source), where
        key = source.choice(keys)
        inner = place[key]
        if isinstance(inner, dict | list) and inner and source.random() < 0.8:
            place, where = inner, f"{where}.{key}"
            continue
        action = source.randrange(6)
        if action == 0:
            del place[key]
            return data, f"{where}.{key} gone"
        if action == 1 and isinstance(place, dict):
            name = source.choice(TEXTS) or "x"
            place[name] = value(source)
            return data, f"{where} has {name!r:.40}"
        place[key] = value(source)
        return data, f"{where}.{key} = {place[key]!r:.60}"


def damaged(source: random.Random, content: bytes) -> tuple[bytes, str]:
    """Bytes cut, flipped, overwritten or lengthened, and a description."""
    if not content:
        return b"\0" * 10, "zeros"
    at = source.randrange(len(content))
    kind = source.randrange(5)
    if kind == 0:
        return content[:at], f"cut at {at}"
    if kind == 1:
        return content[:at] + bytes([content[at] ^ 1 << source.randrange(8)]) + content[at + 1 :], f"a bit at {at}"
    if kind == 2:
        noise = source.randbytes(source.randrange(1, 64))
        return content[:at] + noise + content[at + len(noise) :], f"noise at {at}"
    if kind == 3:
        return content + source.randbytes(source.randrange(1, 4096)), "bytes at the end"
    return b"", "empty"
