"""Read a run's directory as its files describe it: run.json, metrics.jsonl, the artifact's manifest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rcc.artifact.container import FILE as CONTAINER
from rcc.artifact.manifest import is_artifact, read_manifest
from rcc.artifact.parts import matrix_bytes, parts
from rcc.command_line import PROGRAM, key_of, names_code, resume_line
from rcc.errors import UserError
from rcc.locks import is_held
from rcc.reporting.recorded.numbers import Numbers, moment, number_of, read_numbers
from rcc.reporting.run_manifest import COMPLETED, RUNNING, read_run_manifest

LOCK, TRAINING = ".lock", "training"
ARTIFACTS = ("artifact", CONTAINER)
LIVE, STOPPED = "live", "stopped"
"""What a run is that says 'running': one whose process holds its lock, and one that was killed."""


@dataclass(frozen=True)
class Span:
    """A time in which a process worked: None for an end that nobody noted."""

    start: datetime
    end: datetime | None
    status: str


@dataclass(frozen=True)
class RecordedRun:
    """What a run's files say.

    Attributes:
        directory: as it was asked for.
        status: 'finished', 'failed', 'interrupted', 'live', 'stopped', or 'abandoned' by its search.
        words: the command line of its first attempt, the program first.
        plan: the labels of its steps, in order.
        result: its numbers by name, as a sweep takes them; empty where it did not finish.
        missed: why its target in bytes was missed; empty where it was not.
        primary: the metric that retention is of; empty where it is not recorded.
        settings: the published configuration, of the artifact's manifest; empty without an artifact.
        artifact: its path, where there is one that can be read.
        parts: the artifact's bytes by what they are for.
        matrices: those of each matrix.
        problems: what could not be read, and why.
        abandoned: after which step its search stopped it early, and why.
    """

    directory: Path
    status: str
    seed: str = ""
    words: tuple[str, ...] = ()
    attempts: tuple[Span, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    plan: tuple[str, ...] = ()
    fingerprint: str = ""
    result: Mapping[str, float] = field(default_factory=dict)
    missed: str = ""
    target: float | None = None
    primary: str = ""
    numbers: Numbers = field(default_factory=Numbers)
    settings: Mapping[str, Any] = field(default_factory=dict)
    artifact: Path | None = None
    parts: Sequence[tuple[str, int]] = ()
    matrices: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    abandoned: str = ""

    @property
    def overrides(self) -> tuple[str, ...]:
        """What was typed, without the program and its flags."""
        return tuple(word for word in self.words[1:] if "=" in word and not word.startswith("-"))

    @property
    def job(self) -> str:
        return self.asked("job", "compress")

    @property
    def started(self) -> datetime | None:
        return self.attempts[0].start if self.attempts else None

    @property
    def seconds(self) -> float:
        """That processes worked in it, as far as ends are known."""
        return sum((span.end - span.start).total_seconds() for span in self.attempts if span.end is not None)

    @property
    def name(self) -> str:
        """'dare → quant on clip_tiny, digits', as far as it is known."""
        data = self.choice("data", "digits")
        if not self.plan:
            return f"job={self.job} on {data}"
        return f"{' → '.join(dict.fromkeys(self.plan))} on {self.choice('model', 'clip_tiny')}, {data}"

    @property
    def repeat(self) -> str:
        """The command line that would repeat it, quoted for the shell; empty where the file names another program."""
        return shlex.join(self.words) if self.words[:1] == (PROGRAM,) else ""

    @property
    def resume(self) -> str:
        """The command line that goes on with it; empty where it has finished, or has no steps to go on from."""
        steps = self.plan or (self.directory / TRAINING).is_dir()
        if self.status in COMPLETED or not steps:
            return ""
        return resume_line(self.directory, self.overrides)

    @property
    def names_code(self) -> bool:
        """Whether its commands choose code to run, which is a matter of trust."""
        return any(map(names_code, self.overrides))

    def asked(self, key: str, default: str = "") -> str:
        """The last value typed for an option or a group."""
        values = [word.partition("=")[2] for word in self.overrides if key_of(word) == key]
        return values[-1] if values else default

    def choice(self, group: str, default: str) -> str:
        """The choice of a group: of the published configuration, else what was typed."""
        node = self.settings.get(group)
        name = node.get("name") if isinstance(node, Mapping) else None
        return str(name) if name else self.asked(group, default)


def read_run(directory: Path, layers: bool = True) -> RecordedRun:
    """The run in a directory. What cannot be read beside run.json is left out, and is among its `problems`.

    Args:
        layers: whether to read what is recorded of single layers, and the artifact: a sweep's page has no place for it.

    Raises:
        UserError: there is no run.json, or it is damaged.
    """
    manifest = read_run_manifest(directory)
    problems: list[str] = []
    numbers = Numbers()
    try:
        numbers = read_numbers(directory, layers)
    except (OSError, UserError) as error:
        problems.append(f"metrics.jsonl cannot be read: {error}")
    result = _mapping(manifest.get("result"))
    read = {str(name): number_of(value) for name, value in _mapping(result.get("numbers")).items()}
    attempts = manifest["attempts"]
    words = attempts[0].get("command")
    run = RecordedRun(
        directory,
        status_of(directory, manifest["status"]),
        seed=str(manifest.get("seed", "")),
        words=tuple(map(str, words)) if isinstance(words, list) else (),
        attempts=tuple(_spans(attempts)),
        environment=manifest["environment"],
        plan=tuple(str(step["label"]) for step in _list(manifest.get("plan")) if _mapping(step).get("label")),
        fingerprint=str(manifest.get("data_fingerprint", "")),
        result={name: value for name, value in read.items() if value is not None},
        missed=str(result.get("missed") or ""),
        target=number_of(result.get("target_bytes")),
        primary=str(result.get("primary") or ""),
        numbers=numbers,
        problems=tuple(problems),
        abandoned=str(manifest.get("abandoned", "")),
    )
    return _with_artifact(run) if layers else run


def end_of(run: RecordedRun, span: Span) -> datetime:
    """When an attempt ended: as noted, of a live one now, of a killed one when it last wrote a number."""
    if span.end is not None:
        return span.end
    later = [other.start for other in run.attempts if other.start > span.start]
    last = datetime.now(UTC) if run.status == LIVE and not later else run.numbers.last or span.start
    return max(span.start, min([last, *later]))


def status_of(directory: Path, status: str) -> str:
    """A recorded status, with 'running' told apart by the lock."""
    if status != RUNNING:
        return status
    return LIVE if is_held(directory / LOCK) else STOPPED


def artifact_in(directory: Path) -> Path | None:
    """The artifact of a run, in either container."""
    return next((directory / name for name in ARTIFACTS if is_artifact(directory / name)), None)


def _with_artifact(run: RecordedRun) -> RecordedRun:
    path = artifact_in(run.directory)
    if path is None:
        return run
    try:
        manifest = read_manifest(path)
        found = {"parts": parts(path, manifest), "matrices": matrix_bytes(manifest), "settings": manifest.config}
    except (OSError, UserError) as error:
        return RecordedRun(**vars(run) | {"problems": (*run.problems, str(error))})
    return RecordedRun(**vars(run) | {"artifact": path} | found)


def _spans(attempts: Sequence[Any]) -> list[Span]:
    spans = []
    for attempt in attempts:
        start, end = moment(attempt.get("started")), moment(attempt.get("finished"))
        if start is not None:
            spans.append(Span(start, end if end is not None and end >= start else None, attempt["status"]))
    return spans


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
