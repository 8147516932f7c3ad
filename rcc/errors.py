"""Raise errors with an exit code: 2 when the user's input was wrong, 1 when the work itself failed.

Every message says what was asked, what was found, what exists and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class RccError(Exception):
    """An error this project raises on purpose; its text is meant for the user."""

    exit_code = 1

    def __init__(self, text: str = "") -> None:
        # Names out of files and of the file system may hold lone surrogates, which no terminal or file takes.
        super().__init__(text.encode(errors="backslashreplace").decode())


class UserError(RccError):
    """The input was wrong. Holds every problem found, so that all are reported at once."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


class WorkError(RccError):
    """The input was fine and the work failed: a full disk, a stage that blew up, a non-finite weight."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """`" Did you mean 'dare'?"` when something in `choices` is close to `name`, else an empty string."""
    close = get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def listed(names: Iterable[str], most: int = 8) -> str:
    """The names in order, the first `most` of them and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def unknown(kind: str, name: str, choices: Iterable[str]) -> str:
    """The one sentence for a name that does not exist: what was asked, what exists, the nearest."""
    choices = sorted(choices)
    return f"unknown {kind} '{name}'.{nearest(name, choices)} Available: {', '.join(choices) or 'none'}."


class Problems:
    """Collects what is wrong with an input, so that one `UserError` can say all of it.

    >>> problems = Problems("stage 'dare'")
    >>> problems.check(0 <= s <= 0.99, f"target_sparsity is {s}; it must lie in [0, 0.99].")
    >>> problems.done()
    """

    def __init__(self, where: str = "") -> None:
        self.where = where
        self.found: list[str] = []

    def check(self, holds: bool, problem: str) -> bool:
        """Note `problem` (prefixed with where it was found) unless `holds`; return `holds`."""
        if not holds:
            self.found.append(f"{self.where}: {problem}" if self.where else problem)
        return holds

    def choice(self, option: str, value: str, choices: Iterable[str]) -> bool:
        """Note a problem unless `value` is one of `choices`."""
        choices = list(choices)
        if value in choices:
            return True
        # Only now: near names are looked for by difflib, which would take a third of the time that loading takes.
        return self.check(False, unknown(option, str(value), choices))

    def done(self) -> None:
        """Raise one `UserError` with everything found, or return if nothing was."""
        if self.found:
            raise UserError(*self.found)
