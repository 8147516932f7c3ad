"""job=show: print what is in an artifact, from its manifest alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rcc.artifact.entries import Matrix, Vector
from rcc.artifact.manifest import Manifest, read_manifest
from rcc.artifact.parts import parts
from rcc.artifact.size import directory_bytes
from rcc.errors import Problems
from rcc.jobs.job import Job
from rcc.reporting.drawing import Terminal, draw, say
from rcc.reporting.formats import MISSING, bytes_text, share_text
from rcc.reporting.tables import Table

WIDTH = 80  # of what is not a terminal


class Show(Job):
    """Prints tables of an artifact's bytes, tensors, encodings and files, and of the run that made it.

    Nothing is verified but the manifest's own checksum, and no weight is read.
    """

    manifest: Manifest

    def read(self, found: Problems) -> None:
        super().read(found)
        given = self.settings["artifact"]
        text = isinstance(given, str)
        asked = "job=show needs an artifact" if given is None else f"artifact is {given}"
        found.check(text, f"{asked}; give the directory or the file of one: artifact=<path>.")
        found.check(
            isinstance(self.settings["tensors"], bool),
            f"tensors is {self.settings['tensors']}; it must be true or false.",
        )
        found.check(
            self.settings["dry_run"] is True, "dry_run=false has no effect: job=show writes nothing. Leave it out."
        )
        if text and found.path("artifact", given):
            with found.collecting():
                self.manifest = read_manifest(given)

    def run(self) -> None:
        """Print the tables."""
        path = Path(self.settings["artifact"])
        terminal = Terminal(highlight=False)
        if not terminal.is_terminal:
            terminal.width = WIDTH
        total = directory_bytes(path)
        kind = "one file" if path.is_file() else "a directory"
        say(terminal, f"{path}: {kind} of {total:,} bytes ({bytes_text(total)}).")
        draw(terminal, parts_table(path, self.manifest))
        draw(terminal, encodings_table(self.manifest))
        if self.settings["tensors"]:
            draw(terminal, tensors_table(self.manifest))
        draw(terminal, files_table(self.manifest))
        for line in making(self.manifest):
            say(terminal, line)


def parts_table(path: Path, manifest: Manifest) -> Table:
    """The bytes of an artifact by what they are for; they sum up to those on disk."""
    total = directory_bytes(path)
    rows = [*parts(path, manifest), ("all", total)]
    return Table(
        ("part", "bytes", "share"),
        tuple((name, f"{n:,}", share_text(n / total if total else 0.0, 1)) for name, n in rows),
    )


def encodings_table(manifest: Manifest) -> Table:
    """The matrices by how they are stored: how many, their values, zeros that take no value, bytes, bits a value."""
    groups: dict[tuple[str, str], list[Matrix]] = {}
    for entry in manifest.tensors.values():
        if isinstance(entry, Matrix):
            groups.setdefault((_kind(entry), entry.encoding), []).append(entry)
    rows = [(kind, encoding, str(len(group)), *_numbers(group)) for (kind, encoding), group in sorted(groups.items())]
    return Table(("values", "encoding", "matrices", "count", "zeros left out", "bytes", "bits a value"), tuple(rows), 2)


def tensors_table(manifest: Manifest) -> Table:
    """A line for each matrix, by name."""
    rows = [
        (name, "x".join(map(str, entry.shape)), _kind(entry), entry.encoding, *_numbers([entry])[1:])
        for name, entry in manifest.tensors.items()
        if isinstance(entry, Matrix)
    ]
    return Table(("tensor", "shape", "values", "encoding", "zeros left out", "bytes", "bits a value"), tuple(rows), 4)


def files_table(manifest: Manifest) -> Table:
    """The model's other files, with their bytes as they are when laid out."""
    rows = [(name, f"{entry.nbytes:,}") for name, entry in sorted(manifest.files.items())]
    return Table(("file of the model", "bytes"), tuple(rows) or ((MISSING, "0"),))


def making(manifest: Manifest) -> list[str]:
    """What made the artifact, as its manifest says; informative, and as true as who wrote it."""
    vectors = Counter(entry.dtype for entry in manifest.tensors.values() if isinstance(entry, Vector))
    lines = [
        f"Adapter {manifest.adapter}, written by rcc {manifest.rcc_version}.",
        f"Vectors: {', '.join(f'{count} of {dtype}' for dtype, count in sorted(vectors.items())) or 'none'};"
        f" {len(manifest.tied)} tied names.",
    ]
    config = manifest.config
    if config:
        stages = " → ".join(_mapping(config.get("stage"))) or "no stage"
        names = (f"{group}={_mapping(config.get(group)).get('name')}" for group in ("model", "data") if group in config)
        lines.append(f"Made by {stages}, {', '.join(names)}, seed {config.get('seed')}.")
    for part in ("selection", "test", "dense_test"):
        measured = _mapping(manifest.metrics.get(part))
        if measured:
            lines.append(f"{part}: {', '.join(f'{name} {value:.4g}' for name, value in _floats(measured))}.")
    return lines


def _kind(entry: Matrix) -> str:
    if entry.span is not None and entry.outliers is None:
        return f"{entry.span[0]} to {entry.span[1]}"
    return "-127 to 127" if entry.stepped else entry.dtype


def _numbers(group: Iterable[Matrix]) -> tuple[str, str, str, str]:
    """Values, the share of them that take no place, bytes, and bits for each value."""
    entries = list(group)
    count = sum(math.prod(entry.shape) for entry in entries)
    nbytes = sum(sum(entry.lengths) for entry in entries)
    left_out = count - sum(entry.stored for entry in entries)
    bits = f"{8 * nbytes / count:.3f}" if count else MISSING
    return f"{count:,}", share_text(left_out / count if count else 0.0, 1), f"{nbytes:,}", bits


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _floats(values: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [(name, value) for name, value in values.items() if isinstance(value, int | float)]
