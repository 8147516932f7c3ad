"""Write the command lines that messages and reports print, so that they run when they are pasted into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

PROGRAM = "rcc-run"
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
