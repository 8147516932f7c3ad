"""`resume=<url>`: join a search whose study lies in a database and whose folder is not seen from here.

The study holds what its sweep was asked. A folder of this machine is made for the trials that are begun here, and the
command goes on as `resume=<that folder>` would; trials of other folders are left to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from rcc.command_line import key_of
from rcc.composing.folders import SWEEP, new_folder
from rcc.composing.overrides import quoted, unquoted, without
from rcc.composing.resume import KEY
from rcc.composing.sweep_options import STORAGE
from rcc.errors import UserError
from rcc.sweeps.record import is_sweep, new_place
from rcc.sweeps.storage import keep_password
from rcc.sweeps.study import recorded

NAME = "#"
"""Between the URL of a database and the name of a study in it."""


def is_url(where: str) -> bool:
    """Whether `resume=` names a database."""
    return "://" in where


def joined(where: str, given: Sequence[str]) -> tuple[str, list[str]]:
    """The folder made for the trials of this machine, and the arguments with it in place of the URL.

    Args:
        where: `<url>`, or `<url>#<study>` where the database holds several.
        given: the arguments, `resume=` among them; `hydra.sweep.dir=` may name the folder.

    Raises:
        UserError: there is no such study, it is of no sweep, or the folder is one already.
    """
    url, _, name = where.partition(NAME)
    url = keep_password(url)
    said = {key_of(text): unquoted(text.partition("=")[2]) for text in given}
    if {STORAGE, "storage"} & set(said):
        raise UserError(f"resume={url} names the database; leave storage= out.")
    record = recorded(url, name)
    folder = Path(said.get(SWEEP) or new_folder(Path("multirun") / f"{datetime.now():%Y-%m-%d/%H-%M-%S}"))
    if is_sweep(folder):
        raise UserError(f"{folder} holds a sweep already. Go on with it: rcc-run resume={folder} storage={url}")
    folder.mkdir(parents=True, exist_ok=True)
    replace(record, storage=url, place=new_place()).write(folder)
    print(f"joined the study {record.study} in {url}; what is begun here lies in {folder}", flush=True)
    kept = without(without(given, KEY), SWEEP)
    return str(folder), [*kept, f"{KEY}={quoted(str(folder))}", f"{STORAGE}={quoted(url)}"]
