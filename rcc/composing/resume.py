"""`resume=<directory>`: the overrides a run was started with, and proof that it would be the same run."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import filterfalse
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rcc.command_line import key_of, names_code, resume_line
from rcc.composing import joined
from rcc.composing.overrides import quoted, unquoted, without
from rcc.errors import UserError, nearest
from rcc.limits import expanded, read_bytes
from rcc.nested import leaves
from rcc.sweeps.record import is_free, is_sweep

KEY = "resume"
LATEST = "latest"
RECORD = "run.json"
TRAINING = "training"
"""The folder of a run's directory that holds what the resume of a training needs."""
RUNS = ("outputs/*/*", "multirun/*/*/*")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser: the one in Python takes the square of the depth for brackets within brackets."""
PLACES = ("path", "images", "names", "clip_score_model")
"""Options that name files, in whatever group."""


def asked(arguments: Sequence[str]) -> str | None:
    """The value of the last `resume=` among the arguments, or None."""
    values = [text.partition("=")[2] for text in arguments if text.lstrip("+").startswith(f"{KEY}=")]
    value = unquoted(values[-1]) if values else ""
    return None if value.lower() in ("", "null") else value


def directory(value: str) -> Path:
    """The directory of a run, or the folder of a sweep, that `resume=<value>` names; `latest` is the newest run, or
    the sweep of which it is a job.

    Raises:
        UserError: it is missing, is neither, or `latest` finds none.
    """
    if value == LATEST:
        found = [record for pattern in RUNS for record in Path().glob(f"{pattern}/{RECORD}")]
        records = [record for record in found if _can_go_on(record)]
        if not records:
            raise UserError(
                f"resume=latest: there is no {RECORD} of a compression or a training under outputs/ or multirun/ of"
                f" {Path.cwd()}. Go to the folder the run was started in, or name its directory: rcc-run"
                " resume=<directory>."
            )
        newest = max(records, key=lambda record: (_started(record), record)).parent
        return newest.parent if is_sweep(newest.parent) else newest
    path = expanded("resume", value)
    if not path.is_dir():
        siblings = [str(other) for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(
            f"resume={value}: no such directory.{nearest(value, siblings)} "
            "`rcc-run resume=latest` continues the newest run."
        )
    if not (path / RECORD).is_file() and not is_sweep(path):
        jobs = sorted(str(record.parent) for record in path.glob(f"*/{RECORD}"))
        hint = f" It holds the runs {', '.join(jobs)}: resume one of them." if jobs else ""
        raise UserError(
            f"resume={value}: not a run's directory, it has no {RECORD}.{hint} "
            "`rcc-run resume=latest` continues the newest run."
        )
    return path


def _can_go_on(record: Path) -> bool:
    """Whether a run.json plans steps, or a training left something; one that cannot be read may, and is refused by name
    later."""
    try:
        plan = json.loads(read_bytes(record)).get("plan", True)
    except (OSError, ValueError, AttributeError, RecursionError, UserError):  # the last by brackets within brackets
        return True
    return bool(plan) or (record.parent / TRAINING).is_dir()


def _started(record: Path) -> datetime:
    """When the newest attempt of a run.json started, as it says itself: the time of the file is that of a copy, or of
    another attempt's end. One that does not say may be the newest, and is refused by name later."""
    try:
        started = datetime.fromisoformat(json.loads(read_bytes(record))["attempts"][-1]["started"])
    except (OSError, ValueError, TypeError, LookupError, RecursionError, UserError):
        return datetime.max.replace(tzinfo=UTC)
    return started if started.tzinfo else started.replace(tzinfo=UTC)


def arguments(path: Path, given: Sequence[str]) -> list[str]:
    """What the run in `path` was started with, its directory, and what is `given` beside `resume=` now.

    What chooses code comes from `given` alone.

    Raises:
        UserError: the record of the overrides cannot be read, or chooses code that was not given again.
    """
    recorded = recorded_overrides(path)
    said = {key_of(text) for text in given}
    unsaid = [text for text in recorded if names_code(text) and key_of(text) not in said]
    if unsaid:  # whoever handed the directory over may have written them
        raise UserError(
            f"resume={path}: its {path / '.hydra/overrides.yaml'} chooses the code to run, by {', '.join(unsaid)}, and "
            f"code is never taken from a directory. If it is yours, say it again: {resume_line(path, recorded)}"
        )
    return [
        *without([text for text in recorded if not names_code(text)], KEY),
        *without(given, KEY),
        f"{KEY}={quoted(str(path))}",
        f"hydra.run.dir={quoted(str(path))}",
    ]


def recorded_overrides(path: Path, option: str = KEY) -> list[str]:
    """The overrides that the run in `path` was started with.

    Args:
        option: that named the run, for messages.

    Raises:
        UserError: their record is missing or is no list of texts.
    """
    recorded = _load(path, "overrides.yaml", option)
    if not isinstance(recorded, list) or not all(isinstance(text, str) for text in recorded):
        raise UserError(f"{option}={path}: {path / '.hydra/overrides.yaml'} is not a list of overrides.")
    return recorded


def recorded_config(path: Path, option: str = KEY) -> dict[str, Any]:
    """The configuration of the run in `path`, resolved.

    Raises:
        UserError: it cannot be read, or is none.
    """
    recorded = _load(path, "config.yaml", option)
    if not isinstance(recorded, dict):
        raise UserError(f"{option}={path}: {path / '.hydra/config.yaml'} is not a configuration.")
    return recorded


def check(path: Path, cfg: DictConfig) -> None:
    """Refuse to go on with a config that differs in meaning from the one recorded in `path`, or from another folder
    where the names of its files mean nothing.

    Raises:
        UserError: with every difference, or every file that is not here; or the record cannot be read.
    """
    then, now = (
        recorded_config(path),
        _resolved(cfg),
    )  # what was recorded is resolved already: a file makes nothing look around here
    lines = [*_another_order(then, now), *_differences(leaves(then), leaves(now))]
    if lines:
        raise UserError(
            f"resume={path}: the configuration differs in meaning from the recorded one:\n    "
            + "\n    ".join(lines)
            + f"\n  Continue as recorded with `{resume_line(path, recorded_overrides(path))}`, or start another run "
            "without resume=."
        )
    away = list(_left_behind(path.resolve(), leaves(then)))
    if away:
        raise UserError(*(f"resume={path}: {told}" for told in away))


def _another_order(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The labels of a joined group are in the order of their mapping, the one place where order means something."""
    for group in filterfalse(is_free, joined.GROUPS):
        labels = [joined.SEPARATOR.join(config.get(group) or ()) for config in (then, now)]
        if labels[0] != labels[1]:
            yield f"{group}: recorded {labels[0]}, asked {labels[1]}"


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys([*then, *now]):
        if is_free(key):
            continue
        if key not in then:
            yield f"{key}: not recorded, asked {now[key]!r}.{nearest(key, then)}"
        elif key not in now:
            yield f"{key}: recorded {then[key]!r}, now absent"
        elif then[key] != now[key]:
            yield f"{key}: recorded {then[key]!r}, asked {now[key]!r}"


def _left_behind(path: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Relative names of files that are not in the current folder and are in one above the run's directory."""
    for key, value in config.items():
        if key.split(".")[-1] not in PLACES or not isinstance(value, str) or Path(value).exists():
            continue
        start = next((folder for folder in path.parents if (folder / value).exists()), None)
        if start is not None:
            there = resume_line(path.relative_to(start), recorded_overrides(path))
            yield (
                f"{key} is '{value}', seen from the folder where the run was started, and the current one has no such "
                f"file. {start} has it: `cd {shlex.quote(str(start))}` and then `{there}`."
            )


def _resolved(cfg: Any) -> Any:
    return OmegaConf.to_container(cfg, resolve=True)


def _load(path: Path, name: str, option: str) -> Any:
    file = path / ".hydra" / name
    try:
        text = read_bytes(file).decode()
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, LOADER)):
            # A few lines of aliases of aliases stand for more than any memory holds, and rcc writes none.
            raise UserError(
                f"{option}={path}: {file} repeats parts of itself by aliases (*), which no record of rcc does."
            )
        return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
    except FileNotFoundError:
        raise UserError(
            f"{option}={path}: {file} is missing, so what the run was started with is not known. "
            "Start another run without resume=."
        ) from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{option}={path}: cannot read {file}: {reason}") from None
