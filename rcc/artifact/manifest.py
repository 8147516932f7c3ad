"""Read and write an artifact's `manifest.json`: strictly, with every problem named at once."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rcc.artifact.container import FILE, end_of_file, is_file, read_layout
from rcc.artifact.contents import DTYPES
from rcc.artifact.entries import (
    Entry,
    FileEntry,
    Matrix,
    Stream,
    Vector,
    entry_text,
    parse_entry,
    parse_file,
    parse_stream,
    stream_text,
    vector_order,
)
from rcc.artifact.patterns import expanded, factored, justified
from rcc.atomic import reading, replaced, write_file
from rcc.errors import Problems, UserError, listed
from rcc.limits import read_bytes

FORMAT, VERSION, READ_VERSIONS = "rcc-artifact", 6, (2, 3, 4, 5, 6)
CHECKSUM, CHECKED_VERSION = "checksum", 3
"""A key that version 3 added."""
PATTERNS_VERSION = 5
"""Names are patterns from this version on, see `rcc.artifact.patterns`."""
MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
_KEYS = {
    "format": str, "version": int, "adapter": str, "rcc_version": str, "dtype": str, "modules": dict,
    "vectors": dict, "tied": dict, "files": dict, "config": dict, "metrics": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """All that `manifest.json` says; `docs/artifact-format.md` is its reference.

    `tensors` are all that are stored, by name; `streams` hold the values of those that are vectors, by dtype or grid;
    `tied` are further names of stored tensors.
    """

    adapter: str
    rcc_version: str
    tensors: dict[str, Entry]
    streams: dict[str, Stream]
    tied: dict[str, str]
    files: dict[str, FileEntry]
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def modules(self) -> dict[str, dict[str, str]]:
        """For each module the names of its tensors, by attribute; a tied one is named as it is stored."""
        modules: dict[str, dict[str, str]] = {}
        for name, stored in (*((name, name) for name in self.tensors), *self.tied.items()):
            module, _, attribute = name.rpartition(".")
            modules.setdefault(module, {})[attribute] = stored
        return modules

    def vectors(self, stream: str) -> dict[str, Vector]:
        """The vectors of a stream, in the order in which their values lie."""
        found = {name: entry for name, entry in self.tensors.items() if isinstance(entry, Vector)}
        return {name: found[name] for name in vector_order(found) if found[name].stream == stream}

    def to_bytes(self) -> bytes:
        """The file's content in UTF-8: sorted keys, a line for modules alike, non-finite numbers as null."""
        dtypes = [entry.dtype for entry in self.tensors.values() if not (isinstance(entry, Matrix) and entry.stepped)]
        # Nearly all tensors are of one dtype, which is said once; sorted first, so that a tie has one outcome.
        default = max(sorted(set(dtypes)), key=dtypes.count, default="float32")
        modules: dict[str, dict[str, str]] = {}
        for name, entry in self.tensors.items():
            module, _, attribute = name.rpartition(".")
            modules.setdefault(module, {})[attribute] = entry_text(entry, default)
        text = self._text(default, factored(modules))
        # Names that few bytes stand for are written out, if ever a network has them.
        return text if justified(modules, len(text)) else self._text(default, modules)

    def _text(self, default: str, modules: Mapping[str, Any]) -> bytes:
        data = {
            "format": FORMAT,
            "version": VERSION,
            "adapter": self.adapter,
            "rcc_version": self.rcc_version,
            "dtype": default,
            "modules": modules,
            "vectors": {dtype: stream_text(stream) for dtype, stream in self.streams.items()},
            "tied": self.tied,
            "files": {name: str(entry) for name, entry in self.files.items()},
            "config": self.config,
            "metrics": self.metrics,
        }
        plain = _plain(data)
        return (_json({**plain, CHECKSUM: checksum(plain)}, levels=2) + "\n").encode()


def checksum(data: Mapping[str, Any]) -> str:
    """The SHA-256 of the canonical JSON of a manifest: all fields but the checksum, keys sorted, no spaces, ASCII.

    Raises:
        ValueError: a number that is not finite, which no manifest holds.
    """
    others = {key: value for key, value in data.items() if key != CHECKSUM}
    return hashlib.sha256(_json(others, levels=0).encode()).hexdigest()


def record_metrics(directory: Path | str, metrics: Mapping[str, Any]) -> None:
    """Replace the metrics in an artifact's manifest, atomically: some are known only after it was reloaded.

    Raises:
        UserError: the directory is no artifact, or cannot be written to.
        WorkError: the disk is full or fails.
    """
    path = Path(directory)
    content = replace(read_manifest(path), metrics=dict(metrics)).to_bytes()
    if path.is_dir():
        write_file(path / MANIFEST, content)
        return
    layout = read_layout(path)
    with replaced(path) as partial:
        shutil.copyfile(path, partial)
        with open(partial, "r+b") as file:
            file.truncate(layout.begin + layout.data)
            file.seek(0, 2)
            file.write(end_of_file(layout.files, content))


def read_manifest(directory: Path | str) -> Manifest:
    """The manifest of an artifact, a directory or a file.

    Raises:
        UserError: no manifest, one of another format or version, or one with errors, all named.
    """
    path, text = _manifest_text(Path(directory))
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it is not JSON ({error}). Copy the artifact again.") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UserError(f"{path} is not the manifest of an artifact: its format is not '{FORMAT}'.")
    version = data.get("version")
    if type(version) is not int or version not in READ_VERSIONS:
        older = type(version) is int and version < VERSION
        raise UserError(
            f"{path} has version {version!r} of the format and this rcc reads versions"
            f" {listed(map(str, READ_VERSIONS))}. rcc {data.get('rcc_version')} wrote it:"
            f" {'compress the model again' if older else 'update rcc'}."
        )
    if version >= CHECKED_VERSION:
        _check_checksum(path, data)
    problems = Problems(str(path))
    _check_keys(data, problems)
    if version >= PATTERNS_VERSION:
        data["modules"] = expanded(data["modules"], len(text), problems)
        problems.done()
    return _parse(data, problems)


def is_artifact(path: Path | str) -> bool:
    """Whether an artifact lies there, as a directory or as a file; it may still be damaged."""
    return (Path(path) / MANIFEST).is_file() or is_file(path)


def _manifest_text(place: Path) -> tuple[Path, bytes]:
    """The manifest of an artifact in either container, and how messages call it."""
    if place.is_file():
        return place, read_layout(place).manifest
    path = place / MANIFEST
    with reading(path):
        if not path.is_file():
            raise UserError(
                f"{place} is not an artifact: it has no {MANIFEST} ({_found(place)}). Give the `artifact` folder, or "
                f"the file {FILE}, of a finished run."
            )
        return path, read_bytes(path, place)


def _check_checksum(path: Path, data: dict[str, Any]) -> None:
    """Refuse a manifest whose fields are not those that its checksum was taken of; takes it out of `data`."""
    noted = data.pop(CHECKSUM, None)
    try:
        found = checksum(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}. Copy the artifact again.") from error
    if noted != found:
        raise UserError(
            f"{path} is not the manifest that was written: its checksum is {str(noted)[:16]!r} and that of its fields"
            f" {found[:16]!r}. Copy the artifact again."
        )


def _found(directory: Path) -> str:
    if not directory.is_dir():
        return "there is no such folder"
    return "found: " + (", ".join(sorted(path.name for path in directory.iterdir())) or "an empty folder")


def _check_keys(data: dict[str, Any], problems: Problems) -> None:
    """Refuse keys that are missing, of another type or not known, and modules that are no mappings."""
    for key, kind in _KEYS.items():
        problems.check(isinstance(data.get(key), kind), f"'{key}' is missing or not a {kind.__name__}.")
    problems.check(data.keys() <= _KEYS.keys(), f"keys that are not known: {', '.join(data.keys() - _KEYS.keys())}.")
    problems.done()
    for module, attributes in data["modules"].items():
        if problems.check(isinstance(attributes, dict), f"modules: '{module}' is not a mapping."):
            dotted = ", ".join(attribute for attribute in attributes if "." in attribute)
            problems.check(not dotted, f"module '{module}' has attributes with a dot: {dotted}.")
    problems.choice("dtype", data["dtype"], DTYPES)
    problems.done()


def _parse(data: dict[str, Any], problems: Problems) -> Manifest:
    """The manifest of data with a line for each tensor of each module."""
    parsed = {
        name: parse_entry(name, text, data["dtype"], problems)
        for name, text in (
            (f"{module}.{attribute}" if module else attribute, text)
            for module, attributes in data["modules"].items()
            for attribute, text in attributes.items()
        )
    }
    files = {name: parse_file(name, text, problems) for name, text in data["files"].items()}
    for alias, name in data["tied"].items():
        problems.check(
            isinstance(name, str) and name in parsed and alias not in parsed,
            f"'{alias}' is tied to {name!r}, which is not a stored tensor of another name.",
        )
    problems.done()
    tensors = {name: entry for name, entry in parsed.items() if entry is not None}
    for name, entry in tensors.items():
        if isinstance(entry, Matrix) and entry.stepped:
            step = tensors.get(f"{name}_step")
            problems.check(
                isinstance(step, Vector) and DTYPES[step.dtype].is_floating_point and step.shape == entry.shape[:1],
                f"tensor '{name}' of shape {list(entry.shape)} needs its steps in '{name}_step', which is not them.",
            )
    counts: dict[str, int] = {}
    for entry in tensors.values():
        if isinstance(entry, Vector) and entry.stream:
            counts[entry.stream] = counts.get(entry.stream, 0) + math.prod(entry.shape)
    problems.check(
        counts.keys() == data["vectors"].keys(),
        f"there are vectors of {', '.join(sorted(counts)) or 'no dtype'}, and values of those of "
        f"{', '.join(sorted(data['vectors'])) or 'none'}.",
    )
    problems.done()
    streams = {dtype: parse_stream(dtype, text, counts[dtype], problems) for dtype, text in data["vectors"].items()}
    problems.done()
    return Manifest(
        adapter=data["adapter"],
        rcc_version=data["rcc_version"],
        tensors=dict(sorted(tensors.items())),
        streams={dtype: stream for dtype, stream in streams.items() if stream is not None},
        tied=data["tied"],
        files={name: entry for name, entry in files.items() if entry is not None},
        config=data["config"],
        metrics=data["metrics"],
    )


def _json(value: Any, levels: int) -> str:
    """Compact JSON, with a line an entry in the outer `levels` of mappings, so that people can read it."""
    if levels == 0 or not isinstance(value, dict) or not value:
        return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"), default=str)
    entries = (f"{json.dumps(key)}:{_json(item, levels - 1)}" for key, item in sorted(value.items()))
    return "{\n" + ",\n".join(entries) + "\n}"


def _plain(value: Any) -> Any:
    """`value` with non-finite numbers as None and tuples as lists, for JSON that any language reads."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
