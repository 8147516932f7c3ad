"""Seeded damage and malice done to the files of a directory: bytes changed, and values of JSON replaced by odd ones."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

from rcc.artifact.manifest import checksum

ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 3, 255, 2**31, 10**9, 10**15, 10**30, -0.5, 1e-300, 1e300),
    *("", "x", "../../etc/passwd", "/dev/zero", "os:system", "\ud800", "a" * 5000, "9" * 14),
    *([], [1], [[]], [None, -1], {}, {"a": 1}, {"": {}}),
)
PATTERNS = ("{0..999999}", "{0..3}", "{a,b}", "{", "a..b", ".".join(["{a,b}"] * 40))
"""Keys, or what they are continued with, that stand for many names or for none."""


def mutate(directory: Path, seed: int) -> str:
    """Change one thing in a file of `directory`; returns what was done. Manifests vouch for what was changed."""
    draw = random.Random(seed)
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    file = draw.choice(files)
    name = file.relative_to(directory).as_posix()
    if file.suffix == ".json" and draw.random() < 0.75:
        content = json.loads(file.read_text())
        done = replace(content, draw)
        file.write_text(json.dumps(content))
    else:
        done = damage(file, draw)
    _vouch(directory, name)
    return f"{name}: {done}"


def replace(content: Any, draw: random.Random) -> str:
    """One value somewhere inside replaced, removed or called otherwise, or a number in its text changed."""
    trail = []
    while True:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not keys:
            return "nothing"
        key = draw.choice(keys)
        trail.append(str(key))
        value = content[key]
        if isinstance(value, dict | list) and value and draw.random() < 0.9:
            content = value
            continue
        way = draw.randrange(5)
        if way == 0:
            del content[key]
        elif way == 4 and isinstance(content, dict):
            key = draw.choice(("", f"{key}.")) + draw.choice(PATTERNS)
            content[key] = content.pop(trail[-1])
        elif way == 1 and isinstance(value, str) and " " in value:
            words = value.split(" ")
            place = draw.randrange(len(words))
            words[place] = draw.choice(
                (
                    "9" * 14,
                    "0",
                    "-1",
                    "1x1",
                    "gaps",
                    "csr",
                    "int8*step",
                    "float16",
                    "1~1",
                    "",
                    "-1:1",
                    "0:0",
                    "=3c00",
                    "^5",
                    "*9p-12",
                    "^-9999",
                )
            )
            content[key] = " ".join(words)
        else:
            content[key] = draw.choice(ODD)
        return f"{'.'.join(trail)} = {str(content[key])[:40] if way else 'gone'}"


def damage(file: Path, draw: random.Random) -> str:
    content = bytearray(file.read_bytes())
    place = draw.randrange(len(content))
    way = draw.randrange(4)
    if way == 0:
        content[place] ^= 1 << draw.randrange(8)
    elif way == 1:
        del content[place:]
    elif way == 2:
        content[place:place] = draw.randbytes(draw.choice((1, 8, 100)))
    else:
        content[:8] = draw.randrange(2**63).to_bytes(8, "little")
    file.write_bytes(content)
    return f"{('bit flipped', 'cut', 'bytes put in', 'header changed')[way]} at {place}"


def _vouch(directory: Path, name: str) -> None:
    """Let an artifact's manifest, where it can still be read, say that the changed file is right."""
    path = directory / "manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
        if name in manifest["files"]:
            stored = (directory / name).read_bytes()
            manifest["files"][name] = f"{len(stored)} {hashlib.sha256(stored).hexdigest()[:32]}"
        path.write_text(json.dumps({**manifest, "checksum": checksum(manifest)}))
    except (OSError, ValueError, KeyError, TypeError):
        return
