"""`resume=<folder of a sweep>`: what the sweep was asked, from its record, and what may be said anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rcc.command_line import key_of, names_code
from rcc.composing.overrides import quoted, without
from rcc.composing.resume import KEY
from rcc.errors import UserError
from rcc.sweeps.record import SEARCH, SweepRecord, is_free, read_record
from rcc.sweeps.storage import PASSWORD

SWEEPER = "hydra.sweeper"


def arguments(folder: Path, given: Sequence[str]) -> list[str]:
    """The arguments of the sweep in `folder` as they were recorded, and what is `given` beside `resume=` now.

    What chooses code, and the database that is opened, come from `given` alone, here as for a run; options of the sweep
    that decide which trials it has are compared by the sweeper.

    Raises:
        UserError: the record cannot be read; it chooses code or a database that was not given again; or something else
            is given that it does not hold.
    """
    record = read_record(folder)
    recorded = [*record.fixed, *record.space]
    given = without(given, KEY)
    said = {key_of(text) for text in given}
    unsaid = [text for text in recorded if names_code(text) and key_of(text) not in said]
    if unsaid:  # whoever handed the folder over may have written them
        raise UserError(
            f"resume={folder}: its sweep.json chooses the code to run, by {', '.join(unsaid)}, and code is never taken"
            f" from a directory. If it is yours, say it again: {record.resume_line(folder)}"
        )
    _refuse_news(folder, record, given)
    if record.storage and f"{SWEEPER}.storage" not in said:  # as with code: a stranger's would be opened
        raise UserError(
            f"resume={folder}: its study lies in {record.storage}, and no directory decides which database is opened."
            f" If it is yours, say it again: {record.resume_line(folder)}. A password that is not in the URL comes from"
            f" {PASSWORD}."
        )
    anew = {key_of(text): text for text in given}
    kept = [anew.pop(key_of(text), text) for text in recorded]  # in the recorded order, which counts
    return [*kept, *anew.values(), *_sweepers(record, said), f"hydra.sweep.dir={quoted(str(folder))}"]


def _refuse_news(folder: Path, record: SweepRecord, given: Sequence[str]) -> None:
    """Refuse arguments that would make other trials than the record's."""
    known = {key_of(text): text.lstrip("+") for text in (*record.fixed, *record.space)}
    lines = []
    for text in given:
        key = key_of(text)
        if is_free(key) or key.split(".")[0].split("/")[0] == "hydra":
            continue
        if key not in known:
            lines.append(f"{text}: not recorded")
        elif known[key] != text.lstrip("+"):
            lines.append(f"{key}: recorded {known[key].partition('=')[2]}, asked {text.partition('=')[2]}")
    if lines:
        raise UserError(
            f"resume={folder}: the sweep would be another than the recorded one:\n    "
            + "\n    ".join(lines)
            + f"\n  Continue as recorded with `{record.resume_line(folder)}`, with"
            " n_trials=<more> or retry=true if you like, or start another sweep without resume=."
        )


def _sweepers(record: SweepRecord, said: set[str]) -> list[str]:
    """The sweeper and its options as they were recorded."""
    if record.kind != SEARCH:
        return ["hydra/sweeper=basic"]
    options = {
        "objectives": list(record.objectives),
        "constraints": list(record.constraints),
        "sampler": record.sampler,
        "options": record.options,
        "seed": record.seed,
        "first": list(record.first),
        "n_trials": record.n_trials,
        "early_stopping": record.early_stopping,
    }
    return ["hydra/sweeper=pareto"] + [
        f"{SWEEPER}.{name}={_in_grammar(value)}" for name, value in options.items() if f"{SWEEPER}.{name}" not in said
    ]


def _in_grammar(value: object) -> str:
    """Plain data in the grammar of arguments, in which keys of mappings stand without quotes."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_in_grammar(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_in_grammar, value)) + "]"
    return quoted(value) if isinstance(value, str) else json.dumps(value)
