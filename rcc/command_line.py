"""Write the command lines that messages and reports print, so that they run when they are pasted into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

PROGRAM = "rcc-run"
CODE = ("model.target", "model.arguments")
"""Options that choose the code to run, beside every `_target_` and whatever is Hydra's own."""
_flags: ContextVar[tuple[str, ...]] = ContextVar("flags", default=())


@contextmanager
def repeating(flags: Sequence[str]) -> Iterator[None]:
    """Put `flags`, as `--config-dir mine`, into every command line that is written inside the block."""
    token = _flags.set(tuple(flags))
    try:
        yield
    finally:
        _flags.reset(token)


def command(*words: str) -> list[str]:
    """The words of a command line: the program, the flags it was started with, and `words`."""
    return [PROGRAM, *_flags.get(), *words]


def command_line(*words: str) -> str:
    """The same as one line, quoted for the shell."""
    return shlex.join(command(*words))


def key_of(override: str) -> str:
    """The option or the group that an override sets, without Hydra's signs: 'seed' of '++seed=0'."""
    return override.lstrip("+~").partition("=")[0]


def names_code(override: str) -> bool:
    """Whether an override chooses the code to run. Such a one is never taken from a directory: the user says it."""
    key = key_of(override)
    return (
        key in CODE
        or key.startswith(tuple(f"{code}." for code in CODE))
        or "_target_" in override
        or (key.replace("/", ".").split(".")[0] == "hydra")
    )


def resuming(directory: Path | str, overrides: Iterable[str]) -> list[str]:
    """The words of the command line that goes on with a run that was started with `overrides`."""
    return command(f"resume={directory}", *filter(names_code, overrides))


def resume_line(directory: Path | str, overrides: Iterable[str]) -> str:
    """The same as one line, quoted for the shell."""
    return shlex.join(resuming(directory, overrides))
