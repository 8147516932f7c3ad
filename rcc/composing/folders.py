"""Choose the folder that Hydra makes for a command: none for a plan, a new one for every run in the default place."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from rcc.composing import overrides
from rcc.composing.composition import PRESETS, Composer
from rcc.composing.telling import unwritable
from rcc.errors import UserError

RUN, SWEEP = "hydra.run.dir", "hydra.sweep.dir"


@dataclass(frozen=True)
class Folder:
    """Where a command's output goes.

    Attributes:
        option: the one that says so.
        default: the path that the shipped configuration gives; None where the user, or a preset of theirs, named one.
        dry: whether the command only plans.
    """

    option: str = RUN
    default: Path | None = None
    dry: bool = False

    @contextmanager
    def options(self) -> Iterator[list[str]]:
        """The arguments that Hydra needs to write there, for as long as it runs.

        Raises:
            UserError, WorkError: the default folder cannot be made.
        """
        if self.dry and self.option == RUN:
            yield [f"{RUN}=."]  # Hydra makes the folder before it asks the job: one that is there, and stays as it is
        elif self.dry:
            with _scratch() as scratch:  # Hydra writes multirun.yaml before the first job
                yield [f"{SWEEP}={overrides.quoted(scratch)}"]
        elif self.default is None:
            yield []
        else:
            yield [f"{self.option}={overrides.quoted(str(new_folder(self.default)))}"]


def leave_no_trace(directory: Path) -> None:
    """Remove the folder that Hydra made for a job of a sweep which only planned; one that holds anything stays."""
    with suppress(OSError):
        directory.rmdir()


def folder_of(texts: Sequence[str], composer: Composer, multirun: bool) -> Folder:
    """The folder of a command line whose arguments were checked."""
    option = SWEEP if multirun else RUN
    cfg = composer.compose(_deciding(texts, composer) if multirun else texts)
    shipped = _written(composer.compose([]), option)
    default = Path(str(OmegaConf.select(cfg, option))) if _written(cfg, option) == shipped else None
    return Folder(option, default, dry=cfg.get("dry_run") is True)


def new_folder(path: Path) -> Path:
    """Make `path`, or the first of `path`_1, `path`_2, … that was not there; of several processes each gets its own.

    Raises:
        UserError, WorkError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count():
            found = path.with_name(f"{path.name}_{number}") if number else path
            try:
                found.mkdir()
            except FileExistsError:
                continue
            return found
    except OSError as error:
        raise unwritable(error) from error
    raise AssertionError


def _deciding(texts: Sequence[str], composer: Composer) -> list[str]:
    """The arguments of a sweep that decide where all of its jobs write."""
    arguments, _ = composer.read(texts)
    keys = (*PRESETS, "job", "dry_run")
    return [each.text for each in arguments if not each.swept and (each.hydras or each.key in keys)]


def _written(cfg: DictConfig, option: str) -> str:
    """An option of Hydra's as it stands in the configuration, its `${now:…}` unresolved."""
    _, section, key = option.split(".")
    return str(OmegaConf.to_container(cfg.hydra[section], resolve=False)[key])  # type: ignore[call-overload, index]


@contextmanager
def _scratch() -> Iterator[str]:
    try:
        scratch = tempfile.TemporaryDirectory(prefix="rcc-plan-")
    except OSError as error:
        raise UserError(
            f"the plan of a sweep needs a folder for files of a moment: {error.strerror or error}. Name one in TMPDIR."
        ) from error
    with scratch as name:
        yield name
