"""Raise errors with an exit code: 2 when the user's input was wrong, 1 when the work itself failed.

Every message says what was asked, what was found, what exists and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TypeGuard, TypeVar

T = TypeVar("T")


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


LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes of one name of a path, and of a whole path, on the file systems that there are."""


def text_fault(text: str) -> str:
    """Why no option can be `text`, as "holds a NUL character"; empty where one can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds {text[error.start]!a}, which is no character"
    return "holds a NUL character" if "\0" in text else ""


def path_fault(path: str | Path) -> str:
    """Why no file can be called `path`, as "holds a NUL character"; empty where one can."""
    if fault := text_fault(str(path)):
        return fault
    written = str(path).encode()
    longest = max(map(len, written.split(b"/")))
    if longest > LONGEST_NAME:
        return f"has a name of {longest} bytes, and {LONGEST_NAME} is the most"
    return f"has {len(written)} bytes, and {LONGEST_PATH} is the most" if len(written) > LONGEST_PATH else ""


def abridged(text: str, most: int = 120) -> str:
    """`text` for a message, cut in its middle where it is very long."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 4 :]} ({len(text)} characters)"


INFINITY = float("inf")


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is an int or a float, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether `value` is an int, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


class Problems:
    """Collects what is wrong with an input, so that one `UserError` can say all of it.

    >>> problems = Problems("stage 'dare'")
    >>> problems.within("target_sparsity", s, "[0, 0.99]")
    >>> problems.check(n < m, f"pattern is {n}:{m}; fewer than all of the {m} inputs can be kept.")
    >>> problems.done()

    The checks of one option's value all return whether it holds, and say the value as Python writes it: '3' is no 3.
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

    def within(self, option: str, value: object, interval: str) -> bool:
        """Note a problem unless `value` is a number in `interval`, which is written as '[0, 1)'."""
        low, high = (float(end) for end in interval[1:-1].split(","))
        holds = is_number(value) and low <= value <= high
        holds = holds and not (value == low and interval[0] == "(") and not (value == high and interval[-1] == ")")
        return self._must_be(holds, option, value, f"a number in {interval}")

    def positive(self, option: str, value: object) -> bool:
        """Note a problem unless `value` is a finite number above 0."""
        return self._must_be(is_number(value) and 0 < value < INFINITY, option, value, "a number above 0")

    def at_least(self, option: str, value: object, least: float) -> bool:
        """Note a problem unless `value` is a finite number from `least` up."""
        holds = is_number(value) and least <= value < INFINITY
        return self._must_be(holds, option, value, f"a number from {least} up")

    def finite(self, option: str, value: object) -> bool:
        """Note a problem unless `value` is a finite number."""
        return self._must_be(is_number(value) and abs(value) < INFINITY, option, value, "a finite number")

    def whole(self, option: str, value: object, least: int, most: int | None = None) -> bool:
        """Note a problem unless `value` is a whole number from `least` up, or to `most`."""
        holds = is_whole(value) and value >= least and (most is None or value <= most)
        return self._must_be(
            holds, option, value, f"a whole number from {least} {'up' if most is None else f'to {most}'}"
        )

    def flag(self, option: str, value: object) -> bool:
        """Note a problem unless `value` is True or False."""
        return self._must_be(isinstance(value, bool), option, value, "true or false")

    def path(self, option: str, value: object) -> bool:
        """Note a problem unless `value` can name a file or a directory."""
        if isinstance(value, str | Path) and (fault := path_fault(value)):
            return self.check(False, f"{option} '{abridged(str(value))}' {fault}. Give the path of a file or a folder.")
        return self._must_be(isinstance(value, str | Path) and bool(str(value)), option, value, "a path")

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Note the problems of a `UserError` that the block raises, and go on after it."""
        try:
            yield
        except UserError as error:
            for problem in error.problems:
                self.check(False, problem)

    def done(self) -> None:
        """Raise one `UserError` with everything found, or return if nothing was."""
        if self.found:
            raise UserError(*self.found)

    def _must_be(self, holds: bool, option: str, value: object, wanted: str) -> bool:
        return self.check(holds, f"{option} is {value!r}; it must be {wanted}.")


@contextmanager
def well_formed(what: str, advice: str) -> Iterator[None]:
    """Refuse, as `UserError`, data out of a file whose parts are not there or not of the types that the block reads."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"{what} is damaged ({type(error).__name__}: {error}). {advice}") from error
