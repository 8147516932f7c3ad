"""Resolve what `artifact=` names for job=evaluate: artifacts, checkpoint directories, the model of `model=`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcc.artifact.container import FILE
from rcc.artifact.manifest import MANIFEST, is_artifact, read_manifest
from rcc.artifact.size import dense_bytes, directory_bytes
from rcc.errors import Problems, UserError
from rcc.jobs.job import Job
from rcc.jobs.source import load_source
from rcc.models.adapter import Adapter
from rcc.models.auto import OPEN_CLIP
from rcc.models.registry import adapter_for

DENSE, ARTIFACT, CHECKPOINT = "dense", "artifact", "checkpoint"


@dataclass(frozen=True)
class Subject:
    """One model to be measured: `name` as it was asked for, `kind` as one of the three there are."""

    name: str
    kind: str

    def load(self, job: Job) -> Adapter:
        """The model, on the device that was asked for.

        Raises:
            UserError: files that cannot be read.
        """
        if self.kind == DENSE:
            return job.model().eval()
        if self.kind == CHECKPOINT:
            options = {"name": adapter_for(self.name), "path": self.name}
            return load_source(options, job.settings["device"]).eval()
        return job.artifact(self.name)

    def checkpoint(self, job: Job) -> Path | None:
        """The checkpoint directory that it is loaded from; None of an artifact, and of a model that is in none."""
        given = job.settings["model"].get("path") if self.kind == DENSE else self.name
        return Path(given) if given is not None and self.kind != ARTIFACT and Path(given).is_dir() else None

    def nbytes(self, model: Adapter, scratch: Path) -> int:
        """Bytes of its directory or file; of the model of `model=` as a directory in float32, written for a moment."""
        return dense_bytes(model, "float32", scratch) if self.kind == DENSE else directory_bytes(self.name)

    def metrics(self) -> dict[str, Any] | None:
        """What an artifact's manifest recorded; None for other models."""
        return read_manifest(Path(self.name)).metrics if self.kind == ARTIFACT else None


def subjects_of(value: Any) -> list[Subject]:
    """The models that a value of `artifact=` names, in order; null is the model of `model=`.

    Raises:
        UserError: every entry that is no model, or comes again.
    """
    problems = Problems()
    names = [DENSE] if value is None else value if isinstance(value, list) else [value]
    problems.check(bool(names), "artifact=[] names no model; leave it out to measure the model of model=.")
    found = []
    seen: set[str] = set()
    for name in names:
        if not problems.check(
            isinstance(name, str),
            f"artifact is {name}, which YAML reads as a {type(name).__name__}; write artifact=./{name}.",
        ) or not problems.path("artifact", name):
            continue
        place = name if name == DENSE else os.path.realpath(name)
        problems.check(place not in seen, f"artifact names {name} more than once; one column of each is enough.")
        seen.add(place)
        try:
            found.append(Subject(name, _kind(name)))
        except UserError as error:
            problems.found.extend(error.problems)
    problems.done()
    return found


def one_subject(value: Any, otherwise: str) -> Subject:
    """The model that a value of `artifact=` names, of a job that takes one.

    Args:
        otherwise: what to say where it names several.

    Raises:
        UserError: it names several, or as `subjects_of`.
    """
    found = subjects_of(value)
    if len(found) > 1:
        raise UserError(otherwise)
    return found[0]


def _kind(name: str) -> str:
    """Which of the three an entry is; an artifact's manifest is read, so that a wrong one is told at once."""
    path = Path(name)
    if name == DENSE:
        return DENSE
    if is_artifact(path):
        read_manifest(path)
        return ARTIFACT
    if any((path / file).is_file() for file in ("config.json", OPEN_CLIP)) and any(path.glob("*.safetensors")):
        return CHECKPOINT
    if path.is_file():
        found = f"it is a file, and not one such as {FILE}"
    elif not path.is_dir():
        found = "there is nothing of that name"
    else:
        names = sorted(each.name for each in path.iterdir())
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        found = f"it holds {', '.join(names[:6]) or 'nothing'}{more}"
    inside = next((place for place in (path / "artifact", path / FILE) if is_artifact(place)), None)
    hint = "" if inside is None else f" Did you mean {inside}?"
    raise UserError(
        f"{name} is not an artifact (a directory with {MANIFEST}, or a file {FILE}) nor a checkpoint (one with"
        f" config.json and weights in safetensors): {found}.{hint} The word 'dense' stands for the model of model=."
    )
