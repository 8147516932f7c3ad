"""Open the watch around a trial of a search that stops trials early, from what Hydra composed for it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rcc.sweeps.early_stopping import NONE
from rcc.sweeps.objectives import read_objectives
from rcc.sweeps.record import read_record
from rcc.sweeps.storage import keep_password
from rcc.sweeps.watching import Watch, watched


def watched_trial(sweeper: Any, directory: Path) -> AbstractContextManager[None]:
    """What a trial in `directory` runs within; `sweeper` is Hydra's node of that name.

    The database is the one that this command was given, never one that a folder names.
    """
    rule = sweeper.get("early_stopping") or NONE
    if rule == NONE:
        return watched(None)
    record = read_record(directory.parent)
    url = keep_password(sweeper.get("storage") or "")
    objectives = read_objectives(record.objectives)
    return watched(Watch(directory.parent, url, record.study, int(directory.name), rule, objectives))
