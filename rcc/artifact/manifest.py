"""The manifest of an artifact: what `manifest.json` says, read strictly, with every problem named at once."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rcc.artifact.contents import DTYPES, FORM_PARTS, PLAIN_PARTS
from rcc.atomic import reading, write_file
from rcc.errors import Problems, UserError
from rcc.layers.encoding import ENCODINGS

FORMAT, VERSION = "rcc-artifact", 1
MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
_KINDS = ("linear", "conv", "embedding")
_KEYS = {
    "format": str, "version": int, "adapter": str, "rcc_version": str, "structure": dict,
    "tensors": dict, "tied": dict, "files": dict, "config": dict, "metrics": dict,
}  # fmt: skip
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class TensorEntry:
    """One tensor: its encoding, its dtype as stored, its shape, and the SHA-256 of its parts' bytes in order.

    `nonzeros` counts the values with any bit set, so a negative zero counts.
    """

    encoding: str
    dtype: str
    shape: tuple[int, ...]
    nonzeros: int
    sha256: str

    def parts(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Dtype and shape of what `weights.safetensors` holds for it, by the suffix of the key."""
        if self.encoding == "dense":
            return {"": (self.dtype, self.shape)}
        return {
            ".mask": ("uint8", (-(-math.prod(self.shape) // 8),)),
            ".values": (self.dtype, (self.nonzeros,)),
        }


@dataclass(frozen=True)
class UnitEntry:
    """How a unit is held: its kind, and the shapes of its parameters (`weight`, or the parts of the form)."""

    kind: str
    parts: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class FileEntry:
    """One of the adapter's files: its length in bytes and its SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All that `manifest.json` says; `docs/artifact-format.md` is its reference."""

    adapter: str
    rcc_version: str
    structure: dict[str, UnitEntry]
    tensors: dict[str, TensorEntry]
    tied: dict[str, str]
    files: dict[str, FileEntry]
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The file's content in UTF-8: sorted keys, a line a tensor, non-finite numbers as null."""
        data = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return (_json(_plain(data), levels=2) + "\n").encode()


def record_metrics(directory: Path | str, metrics: Mapping[str, Any]) -> None:
    """Replace the metrics in an artifact's manifest, atomically: some are known only after it was reloaded.

    Raises:
        UserError: the directory is no artifact, or cannot be written to.
        WorkError: the disk is full or fails.
    """
    manifest = replace(read_manifest(directory), metrics=dict(metrics))
    write_file(Path(directory) / MANIFEST, manifest.to_bytes())


def read_manifest(directory: Path | str) -> Manifest:
    """The manifest of an artifact.

    Raises:
        UserError: no manifest, one of another format or a newer version, or one with errors, all named.
    """
    directory = Path(directory)
    path = directory / MANIFEST
    with reading(path):
        if not path.is_file():
            raise UserError(
                f"{directory} is not an artifact: it has no {MANIFEST} ({_found(directory)}). Give the "
                "`artifact` folder of a finished run."
            )
        text = path.read_bytes()
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it is not JSON ({error}). Copy the artifact again.") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UserError(f"{path} is not the manifest of an artifact: its format is not '{FORMAT}'.")
    if str(data.get("version")) != str(VERSION):
        raise UserError(
            f"{path} has version {data.get('version')!r} of the format and this rcc reads version {VERSION}. "
            f"rcc {data.get('rcc_version')} wrote it: update rcc."
        )
    return _parse(data, Problems(str(path)))


def _found(directory: Path) -> str:
    if not directory.is_dir():
        return "there is no such folder"
    return "found: " + (", ".join(sorted(path.name for path in directory.iterdir())) or "an empty folder")


def _parse(data: dict[str, Any], problems: Problems) -> Manifest:
    for key, kind in _KEYS.items():
        problems.check(isinstance(data.get(key), kind), f"'{key}' is missing or not a {kind.__name__}.")
    problems.done()
    for key in ("tensors", "structure", "files"):
        for name, entry in data[key].items():
            problems.check(isinstance(entry, dict), f"{key}: '{name}' is not a mapping.")
    problems.done()
    for name, entry in data["tensors"].items():
        _check_tensor(name, entry, problems)
    for alias, name in data["tied"].items():
        problems.check(
            isinstance(name, str) and name in data["tensors"] and alias not in data["tensors"],
            f"'{alias}' is tied to {name!r}, which is not a stored tensor of another name.",
        )
    problems.done()
    for name, entry in data["structure"].items():
        _check_unit(name, entry, data, problems)
    for name, entry in data["files"].items():
        problems.check(
            set(entry) == {"bytes", "sha256"} and _is_count(entry["bytes"]) and _is_sha256(entry["sha256"]),
            f"file '{name}' needs its bytes and its sha256, and has {entry}.",
        )
    problems.done()
    return Manifest(
        adapter=data["adapter"],
        rcc_version=data["rcc_version"],
        structure={
            name: UnitEntry(entry["kind"], {part: tuple(shape) for part, shape in entry["parts"].items()})
            for name, entry in data["structure"].items()
        },
        tensors={
            name: TensorEntry(**{**entry, "shape": tuple(entry["shape"])}) for name, entry in data["tensors"].items()
        },
        tied=data["tied"],
        files={name: FileEntry(**entry) for name, entry in data["files"].items()},
        config=data["config"],
        metrics=data["metrics"],
    )


def _check_tensor(name: str, entry: Mapping[str, Any], problems: Problems) -> None:
    keys = set(TensorEntry.__dataclass_fields__)
    if not problems.check(set(entry) == keys, f"tensor '{name}' has {sorted(entry)}, not {sorted(keys)}."):
        return
    problems.choice(f"encoding of tensor '{name}'", entry["encoding"], ENCODINGS)
    problems.choice(f"dtype of tensor '{name}'", entry["dtype"], DTYPES)
    shape = entry["shape"]
    if problems.check(_is_shape(shape), f"tensor '{name}' has the shape {shape!r}, not a list of sizes."):
        problems.check(
            _is_count(entry["nonzeros"]) and entry["nonzeros"] <= math.prod(shape),
            f"tensor '{name}' of shape {shape} cannot have {entry['nonzeros']!r} non-zeros.",
        )
    problems.check(_is_sha256(entry["sha256"]), f"tensor '{name}' has no SHA-256.")


def _check_unit(name: str, entry: Mapping[str, Any], data: Mapping[str, Any], problems: Problems) -> None:
    parts: Any = entry.get("parts")
    whole = set(entry) == {"kind", "parts"} and isinstance(parts, dict)
    if not problems.check(whole, f"unit '{name}' has {sorted(entry)}, not a kind and parts."):
        return
    problems.choice(f"kind of unit '{name}'", entry["kind"], _KINDS)
    known = set(parts) <= set(PLAIN_PARTS) or (
        set(parts) <= set(FORM_PARTS) and ("left" in parts) == ("right" in parts)
    )
    held = bool({"weight", "sparse", "left"} & set(parts))
    problems.check(known and held, f"unit '{name}' holds {sorted(parts)}, which is no form of a weight.")
    for part, shape in parts.items():
        tensor = data["tied"].get(f"{name}.{part}", f"{name}.{part}")
        stored = data["tensors"].get(tensor, {}).get("shape")
        problems.check(
            _is_shape(shape) and shape == stored,
            f"unit '{name}' has a part '{part}' of shape {shape!r} and its tensor has {stored!r}.",
        )
        dims = 1 if part in ("scale", "bias") else 2
        problems.check(
            _is_shape(shape) and (len(shape) == dims or (part == "weight" and len(shape) > dims)),
            f"unit '{name}' has a part '{part}' of shape {shape!r}, which needs {dims} dimensions.",
        )


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_count, value))


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


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
