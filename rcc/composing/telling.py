"""Errors as the user reads them: what was wrong, in plain words, on stderr, with the right exit code."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rcc.atomic import FORBIDDEN, FULL
from rcc.errors import RccError, UserError, WorkError, unknown

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Set to 1 by a user who wants the stack of an error; Hydra reads it too."""

MISSING_CHOICE = re.compile(r"Could not (?:find|load) '(?P<group>(?:hydra/)?\w+)/(?P<name>[^']+)'")
PLUGINS = {
    "hydra/launcher": {
        "joblib": "hydra-joblib-launcher",
        "ray": "hydra-ray-launcher",
        "ray_aws": "hydra-ray-launcher",
        "rq": "hydra-rq-launcher",
        "submitit_local": "hydra-submitit-launcher",
        "submitit_slurm": "hydra-submitit-launcher",
    },
    "hydra/sweeper": {"ax": "hydra-ax-sweeper", "nevergrad": "hydra-nevergrad-sweeper"},
}
"""Choices that Hydra's documentation names, and the package that brings each."""


def tell(text: str) -> None:
    """One message on stderr."""
    print(f"rcc-run: {text}", file=sys.stderr, flush=True)


def stacks_wanted() -> bool:
    return os.environ.get(FULL_ERROR) == "1"


def report(error: BaseException, stacks: bool) -> int:
    """Print what went wrong, with its stack where asked or where nobody foresaw it; returns the exit code."""
    known = plain(error)
    if known is None or stacks:
        traceback.print_exception(error)
    if known is None:
        tell("this error was not foreseen; the stack above says where it happened.")
        return 1
    problems = known.problems if isinstance(known, UserError) else (str(known),)
    if len(problems) == 1:
        tell(problems[0])
    else:
        tell("\n".join([f"{len(problems)} problems:", *(f"  - {problem}" for problem in problems)]))
    return known.exit_code


def plain(error: BaseException) -> RccError | None:
    """The error as one of our own, or None when nobody foresaw it."""
    if isinstance(error, RccError):
        return error
    if isinstance(error, OSError) and error.errno in (*FULL, *FORBIDDEN):
        return unwritable(error)
    return None


def in_words(error: BaseException, choices: Callable[[str], Iterable[str]] | None = None) -> str:
    """An error of Hydra's in a sentence, without its search path and its hints to other applications.

    `choices(group)` gives what a missing choice is compared with.
    """
    if isinstance(error, RccError):
        return str(error)
    text = str(error).split("\nConfig search path")[0].split("\nSearch path")[0].strip()
    missing = MISSING_CHOICE.search(text)
    if missing and choices:
        package = PLUGINS.get(missing["group"], {}).get(missing["name"])
        brought = f" '{missing['name']}' comes with a plugin that is not installed: pip install {package}"
        return unknown(missing["group"], missing["name"], choices(missing["group"])) + (brought if package else "")
    text = re.sub(r"To append to your .*", "", text)
    cause = str(error.__cause__ or "").split("\n")[0]
    if cause not in text:
        text = f"{text} {cause}"
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def exit_is_failure() -> Iterator[None]:
    """Code of the user's own that calls sys.exit, even with 0, did not do the work.

    Raises:
        WorkError: it did.
    """
    try:
        yield
    except SystemExit as error:
        raise WorkError(
            f"code that the job called ended the program with sys.exit({error.code!r}); the job was not finished. Look"
            f" for the call in the modules that the configuration names; {FULL_ERROR}=1 shows where it is."
        ) from error


@contextmanager
def hydra_raises() -> Iterator[None]:
    """Hydra prints its errors and exits by itself unless the environment tells it to raise them.

    Inside, no job raises (its error is kept with its outcome), so what is raised here is Hydra's own.

    Raises:
        UserError: Hydra could not do what the arguments ask.
        WorkError: the disk is full.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(in_words(error)) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(error) from error
    finally:
        if before is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = before


def unwritable(error: OSError) -> RccError:
    """The error of an output folder that cannot be made or written to."""
    kind = WorkError if error.errno in FULL else UserError
    return kind(
        f"cannot write {error.filename or 'to the output folder'}: {error.strerror or error}. "
        "Give another folder: rcc-run hydra.run.dir=<directory>, or hydra.sweep.dir=<directory> with -m."
    )
