"""Describe a store: what its vectors are of, and which segments it consists of at this instant.

`store.json` is the only file that is ever replaced. What it names is complete; what it does not name is a leftover.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rcc.atomic import write_text
from rcc.errors import Problems, UserError
from rcc.limits import how_to_raise, limits, read_json
from rcc.option_types import fits, wanted

FILE, FORMAT, VERSION = "store.json", "rcc-store", 1
SEGMENT = re.compile(r"segment-\d{8}")
DEAD = re.compile(r"segment-\d{8}\.dead-\d{8}")
_KEYS: dict[str, Any] = {
    "kind": str, "dimensions": int, "model": str, "source": str, "generation": int, "fields": dict[str, str],
    "segments": list[dict[str, Any]],
}  # fmt: skip
_ENTRY: dict[str, Any] = {"name": str, "rows": int, "dead": str, "dead_rows": int}


@dataclass(frozen=True)
class SegmentEntry:
    """A segment of `rows` vectors, of which the file `dead` marks `dead_rows` as deleted or replaced; '' marks none."""

    name: str
    rows: int
    dead: str = ""
    dead_rows: int = 0


@dataclass(frozen=True)
class StoreManifest:
    """What a store is and holds.

    Attributes:
        kind: of its vectors, see `rcc.store.schema.KINDS`.
        dimensions: of each vector.
        model: the checksum of the weights that made them; '' where that was not said.
        source: the path of that model from the store's directory, to be found again; '' where it has none.
        generation: grows with every change.
        fields: the type of each field that rows have beside their id: 'text', 'number' or 'truth'.
    """

    kind: str
    dimensions: int
    model: str = ""
    source: str = ""
    generation: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    segments: tuple[SegmentEntry, ...] = ()

    @property
    def rows(self) -> int:
        """Vectors that are alive."""
        return sum(entry.rows - entry.dead_rows for entry in self.segments)

    def write(self, folder: Path) -> None:
        """Replace the manifest in one instant: from then on this is the store."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        write_text(folder / FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_manifest(folder: Path) -> StoreManifest:
    """The manifest of a store.

    Raises:
        UserError: there is none, or none that this version wrote; what it says cannot be.
    """
    path = folder / FILE
    if not path.exists():
        found = "nothing" if not folder.exists() else "no store.json"
        raise UserError(f"{folder} is no store: there is {found}. Make one with rcc-run job=index store.path={folder}.")
    content = read_json(path)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise UserError(
            f"{path} has format {content.get('format')!r} {content.get('version')!r}; this version reads {FORMAT}"
            f" {VERSION}."
        )
    problems = Problems(f"{path} is damaged")
    if _typed(content, _KEYS, problems, ""):
        for place, entry in enumerate(content["segments"]):
            _typed(entry, _ENTRY, problems, f"segments[{place}].")
    problems.done()
    entries = tuple(SegmentEntry(**{key: entry[key] for key in _ENTRY}) for entry in content["segments"])
    problems.check(
        1 <= content["dimensions"] <= limits.width, f"dimensions is beyond {limits.width}. {how_to_raise('width')}"
    )
    for entry in entries:
        problems.check(bool(SEGMENT.fullmatch(entry.name)), f"'{entry.name!a}' is no name of a segment.")
        problems.check(not entry.dead or bool(DEAD.fullmatch(entry.dead)), f"'{entry.dead!a}' is no name of its file.")
        problems.check(
            entry.rows > 0 and 0 <= entry.dead_rows <= entry.rows, f"'{entry.name!a}' has impossible counts."
        )
    problems.check(len({entry.name for entry in entries}) == len(entries), "a segment is named twice.")
    problems.done()
    return StoreManifest(**{key: content[key] for key in _KEYS if key != "segments"}, segments=entries)


def _typed(content: dict[str, Any], keys: dict[str, Any], problems: Problems, where: str) -> bool:
    for key, kind in keys.items():
        problems.check(key in content and fits(content[key], kind), f"{where}{key} is not {wanted(kind)}.")
    return not problems.found
