"""Keep the rows of the table as JSON lines, so that a killed benchmark goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from equal_bytes.figures import Figure

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Row:
    """One model made small by one method. `problem`: why there is no artifact, or why its bytes are not those asked.

    Attributes:
        nbytes: of the artifact's directory. `ratio`: how many times smaller than dense float32 was asked.
        seconds: processor time of the compression, of which `gate_seconds` are evaluations of the selection data.
        coding: coded bytes of rounded matrices over the entropy of their values.
        code: of the sources that made it.
    """

    subject: str
    ratio: float
    method: str
    code: str
    nbytes: int = 0
    dense_bytes: int = 0
    seconds: float = 0.0
    gate_seconds: float = 0.0
    coding: float = 0.0
    figures: Mapping[str, Figure] = field(default_factory=dict)
    problem: str = ""
    note: str = ""

    @property
    def key(self) -> tuple[str, float, str, str]:
        return self.subject, self.ratio, self.method, self.code

    @property
    def reached(self) -> float:
        return self.dense_bytes / self.nbytes if self.nbytes else 0.0


class Rows:
    """The rows of `path`; a line that a kill cut off is left out, and the next row starts on a line of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[tuple[str, float, str, str], Row] = {}
        self._cut_off = False
        if path.exists():
            text = path.read_text(encoding="utf-8")
            self._cut_off = bool(text) and not text.endswith("\n")
            for line in text.splitlines():
                try:
                    row = _row(json.loads(line))
                except ValueError:
                    continue
                self.done[row.key] = row

    def add(self, row: Row) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" * self._cut_off + json.dumps(asdict(row)) + "\n")
        self._cut_off = False
        self.done[row.key] = row


def _row(data: dict) -> Row:
    return Row(**{**data, "figures": {name: Figure(**figure) for name, figure in data["figures"].items()}})


@cache
def code_of(*sources: str) -> str:
    """A digest of these files of the project, and of all Python sources in these folders: rows of other code are made
    anew."""
    digest = hashlib.sha256()
    for source in sources:
        place = ROOT / source
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(f"{path.relative_to(ROOT)}".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
