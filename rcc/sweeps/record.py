"""sweep.json: what a sweep was asked, written before its first trial, so that any process can go on with it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rcc.atomic import write_text
from rcc.command_line import command_line, key_of, names_code
from rcc.errors import UserError, is_whole
from rcc.limits import read_bytes

FILE = "sweep.json"
FORMAT = 1
LIST, SEARCH = "list", "search"
SAME = ("kind", "fixed", "space", "objectives", "constraints", "sampler", "options", "seed", "first", "early_stopping")
"""What decides which trials a sweep has."""
FREE = ("resume", "dry_run", "logger", "state", "limits")
"""Options that say nothing about a result, so that what is resumed may be given others."""


@dataclass(frozen=True)
class SweepRecord:
    """What was asked of a sweep.

    Attributes:
        kind: 'list' (every combination of values) or 'search' (by a sampler).
        fixed: arguments that hold in every trial.
        space: arguments with several values, those of files included.
        objectives, constraints, sampler, options, seed, first: of a search; see conf/hydra/sweeper/pareto.yaml.
        early_stopping: of a search; what stops its trials early, see `rcc.sweeps.early_stopping`.
        n_trials: of a search; what it is to come to in all.
        storage: the URL of a study that lies elsewhere, without its password; empty: in the sweep's folder.
        study: the name of that study, which no other sweep in the database has; empty: in the sweep's folder.
        place: which of the folders that share a study elsewhere this is; empty: its study is in it, or it is the first.
        versions: of the code that started it.
        failed: of a list, by number: why a trial failed, and its exit code.
    """

    kind: str
    fixed: tuple[str, ...]
    space: tuple[str, ...]
    objectives: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    sampler: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    first: tuple[dict[str, Any], ...] = ()
    early_stopping: str = "none"
    n_trials: int = 0
    storage: str = ""
    study: str = ""
    place: str = ""
    versions: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, dict[str, Any]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write or replace the file, in one instant."""
        write_text(folder / FILE, json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n")

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    def again(self) -> list[str]:
        """What every command that goes on with the sweep says again, because no folder decides it: the code to run, and
        the database that is opened."""
        storage = [f"storage={self.storage}"] if self.storage else []
        return [*filter(names_code, (*self.fixed, *self.space)), *storage]

    def resume_line(self, folder: Path) -> str:
        """The command that goes on with the sweep, quoted for the shell."""
        return command_line(f"resume={folder}", *self.again())

    def without_failure(self, number: int) -> SweepRecord:
        """The record after a trial was done."""
        return replace(self, failed={key: value for key, value in self.failed.items() if key != str(number)})

    def with_failure(self, number: int, message: str, code: int) -> SweepRecord:
        """The record after a trial failed."""
        return replace(self, failed=self.failed | {str(number): {"message": message, "exit_code": code}})


def is_free(override: str) -> bool:
    """Whether an argument may be another one when a run or a sweep is resumed."""
    return key_of(override).split(".")[0] in FREE


def is_sweep(folder: Path) -> bool:
    """Whether a folder holds a sweep's record."""
    return (folder / FILE).is_file()


def read_record(folder: Path) -> SweepRecord:
    """The record in a sweep's folder.

    Raises:
        UserError: it cannot be read, or is none that this version wrote.
    """
    path = folder / FILE
    try:
        content = json.loads(read_bytes(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}). Give the folder of a sweep.") from None
    record = parsed(content)
    if record is None:
        raise UserError(f"{path} is damaged or of another version; this one reads format {FORMAT}. Start another.")
    return record


def parsed(content: Any) -> SweepRecord | None:
    """The record that plain data hold; None where they hold none that this version wrote."""
    first = {"study": "", "place": "", "early_stopping": "none"}  # fields that the first ones did not have
    content = first | content if isinstance(content, dict) else content
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT or not _is_whole(content):
        return None
    tuples = {name: tuple(content[name]) for name in ("fixed", "space", "objectives", "constraints", "first")}
    return SweepRecord(**content | tuples)


def new_place() -> str:
    """A name for a folder that shares a study elsewhere, which no other has."""
    return secrets.token_hex(4)


def _is_whole(content: Mapping[str, Any]) -> bool:
    """Whether every field is there, of the type in which it is read."""
    fields = SweepRecord.__dataclass_fields__
    if set(content) != set(fields) or content["kind"] not in (LIST, SEARCH):
        return False
    texts = [content[name] for name in ("fixed", "space", "objectives", "constraints")]
    return (
        all(isinstance(each, list) and all(isinstance(text, str) for text in each) for each in texts)
        and isinstance(content["first"], list)
        and all(isinstance(each, dict) for each in (*content["first"], *(content[n] for n in ("options", "versions"))))
        and isinstance(content["failed"], dict)
        and all(isinstance(each, dict) and "message" in each for each in content["failed"].values())
        and all(isinstance(content[name], str) for name in ("sampler", "early_stopping", "storage", "study", "place"))
        and all(is_whole(content[name]) for name in ("seed", "n_trials"))
    )


def refuse_differences(folder: Path, then: SweepRecord, now: SweepRecord) -> None:
    """Refuse to go on with a sweep whose trials would be others.

    Raises:
        UserError: with every difference.
    """
    lines = list(_differences(then, now))
    if lines:
        raise UserError(
            f"{folder} holds a sweep that was asked otherwise:\n    "
            + "\n    ".join(lines)
            + f"\n  Continue it as recorded with `{then.resume_line(folder)}`, or start another in a folder of its own:"
            " leave resume= and hydra.sweep.dir out."
        )


def _differences(then: SweepRecord, now: SweepRecord) -> Iterator[str]:
    for name in SAME:
        old, new = getattr(then, name), getattr(now, name)
        if name == "fixed":
            old, new = (tuple(text for text in texts if not is_free(text)) for texts in (old, new))
        if old == new:
            continue
        if name in ("fixed", "space"):
            yield from (f"{text}: recorded, now absent" for text in old if text not in new)
            yield from (f"{text}: not recorded, asked now" for text in new if text not in old)
            if sorted(old) == sorted(new):
                yield f"{name}: recorded in the order {' '.join(old)}, asked {' '.join(new)}"
        else:
            yield f"{name}: recorded {_plain(old)}, asked {_plain(new)}"


def _plain(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
