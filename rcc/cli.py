"""`rcc-run`: arguments → a checked config → a job → an exit code.

Imports neither torch nor transformers, and Hydra only once there is something to compose, so that help is
instant.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcc.command_line import command_line, repeating, resume_line
from rcc.composing.interruption import exit_code, interruptible
from rcc.composing.telling import exit_is_failure, hydra_raises, plain, report, stacks_wanted, tell
from rcc.errors import Problems, RccError, UserError, abridged, text_fault

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from rcc.composing.folders import Folder
    from rcc.composing.outcomes import Command, Outcome

MISSED = 3
"""The exit code of a run that finished, with an artifact, and missed its target in bytes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (the process's own when None); returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with repeating(_config_dir(arguments)), interruptible():
        return _main(arguments)


def _main(arguments: list[str]) -> int:
    from rcc.composing.outcomes import Command

    told = Command()
    try:
        if {"-h", "--help"} & set(arguments):
            from rcc.composing.help import help_text

            print(help_text(), flush=True)
            return 0
        if "--version" in arguments:
            from rcc import __version__

            print(f"rcc {__version__}")
            return 0
        return _compose_and_run(arguments, told)
    except BrokenPipeError:  # whoever read our output has gone, as in `rcc-run --help | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except RccError as error:
        return report(error, stacks_wanted())
    except KeyboardInterrupt as error:
        tell(_interrupted(told))
        return exit_code(error)


def _compose_and_run(arguments: list[str], told: Command) -> int:
    from hydra._internal.utils import get_args_parser  # the one place that knows all of Hydra's flags

    _check_characters(arguments)
    flags = get_args_parser().parse_intermixed_args(arguments)
    if flags.config_path or flags.config_name:
        raise UserError(
            "--config-path and --config-name would replace the configuration that every option is checked by. Add files"
            " of your own beside it with --config-dir=<folder>, as <folder>/experiment/mine.yaml for experiment=mine."
        )
    if flags.shell_completion or flags.hydra_help:
        _hydra(arguments, told)
        return 0
    asked = _checked(flags)
    told.resumes = asked.resumes
    with asked.folder.options() as where:
        _hydra([*_without(arguments, flags.overrides), *asked.flags, *asked.overrides, *where], told)
    if told.outcomes and asked.multirun:
        _summarise(told.outcomes, planned=asked.folder.dry)
    if told.sweep is not None and not asked.folder.dry:
        from rcc.run import report_sweep

        report_sweep(told.sweep)
    return _exit_code(told.outcomes, alone=not asked.multirun)


def _check_characters(arguments: Sequence[str]) -> None:
    """Refuse bytes that are no UTF-8, as a file's name may hold: neither a record nor a report can be written of them.

    Raises:
        UserError: every such argument.
    """
    problems = Problems()
    for text in arguments:
        fault = text_fault(text)
        problems.check(not fault, f"{abridged(text)} {fault}. Give names in UTF-8; rename or link a file of another.")
    problems.done()


@dataclass(frozen=True)
class _Asked:
    """What to hand to Hydra: overrides and flags beside those that were typed; the folder of the output; whether it is
    a sweep, and one that is gone on with."""

    overrides: list[str]
    folder: Folder
    multirun: bool = False
    resumes: bool = False
    flags: tuple[str, ...] = ()


def _checked(flags: Namespace) -> _Asked:
    """What is asked: the overrides that were typed, or with `resume=` those recorded and what was added.

    Raises:
        UserError: with everything that is wrong.
    """
    from rcc.composing import checks, joining, resume, resumed_sweep
    from rcc.composing.composition import composer, config_folder, own
    from rcc.composing.folders import Folder, folder_of
    from rcc.composing.overrides import of_the_logger, verbatim
    from rcc.composing.sweep_options import forced, spelled_out, without_passwords

    overrides, where, multirun = of_the_logger(flags.overrides), resume.asked(flags.overrides), _is_sweep(flags)
    folder = config_folder(flags.config_dir)
    if not multirun:
        overrides = [verbatim(text) for text in overrides]
    if where is not None and multirun:
        raise UserError("resume= continues what was begun and cannot be combined with -m. Leave -m out.")
    with composer(folder) as configs:
        if where is not None and joining.is_url(where):
            where, overrides = joining.joined(where, overrides)
        directory = None if where is None else resume.directory(where)
        goes_on = directory is not None and resume.is_sweep(directory)
        multirun = multirun or goes_on
        if multirun:
            overrides = without_passwords(spelled_out(overrides))
        if directory is not None:
            overrides = (resumed_sweep if goes_on else resume).arguments(directory, overrides)
        deep = None if flags.cfg or flags.info else _deep_check
        found = checks.problems(overrides, configs, multirun, resuming=directory is not None and not goes_on, deep=deep)
        if found:
            raise UserError(*found)
        if directory is not None and not goes_on:
            resume.check(directory, own(configs.compose(overrides)))
        if multirun:
            overrides = forced(overrides, configs)
        if flags.cfg or flags.info:
            return _Asked(overrides, Folder())
        added = ("-m",) if goes_on else ()
        return _Asked(overrides, folder_of(overrides, configs, multirun), multirun, goes_on, added)


def _deep_check(cfg: DictConfig, choices: Mapping[str, str]) -> list[str]:
    from rcc.run import problems

    with exit_is_failure():
        return problems(cfg, choices)


def _hydra(arguments: Sequence[str], told: Command) -> None:
    """Give the arguments to Hydra, which composes them and calls the job, once or for each job of a sweep."""
    import hydra

    from rcc.composing.composition import CONFIG_NAME
    from rcc.shipped import config_dir

    stacks = stacks_wanted()
    folder = next((Path(value) for value in _config_dir(arguments)[1:]), None)

    def job(cfg: DictConfig) -> Any:
        return _job(cfg, told, stacks, folder)

    job.command = told  # type: ignore[attr-defined]
    with hydra_raises(), _argv(arguments):
        hydra.main(config_path=str(config_dir()), config_name=CONFIG_NAME)(job)()


def _job(cfg: DictConfig, told: Command, stacks: bool, folder: Path | None) -> Outcome:
    """One job. An error is told and kept, so that a sweep goes on with its other jobs."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from rcc.composing import resume
    from rcc.composing.composition import composer
    from rcc.composing.folders import leave_no_trace
    from rcc.composing.outcomes import Outcome
    from rcc.composing.sweep_options import heard
    from rcc.composing.watched import watched_trial

    settings = HydraConfig.get()
    overrides = list(settings.overrides.task)
    if any(text.startswith("++") for text in overrides):
        with composer(folder) as configs:
            cfg, overrides = heard(cfg, overrides, configs.shipped(settings.runtime.choices))
    swept = settings.mode == RunMode.MULTIRUN
    directory = _as_typed(settings.runtime.output_dir)
    outcome = Outcome(int(directory.name) if swept else 0, tuple(overrides), directory)
    told.outcomes.append(outcome)
    if swept:
        print(f"\n== job {outcome.number}: {' '.join(outcome.overrides)}", flush=True)
    try:
        from rcc.run import run

        with exit_is_failure():
            if swept and cfg.get("resume"):
                resume.check(outcome.directory, cfg)
            with watched_trial(settings.sweeper if swept else {}, outcome.directory):
                outcome.take(run(cfg, settings.runtime.choices, outcome.directory, overrides))
    except Exception as error:
        outcome.exit_code = report(error, stacks)
        outcome.error = str(plain(error) or f"{type(error).__name__}: {error}")
    if swept and cfg.get("dry_run"):
        leave_no_trace(outcome.directory)
    return outcome


def _as_typed(directory: str) -> Path:
    """A directory below the current one relative to it, as the user would type it; any other as it is."""
    path = Path(directory)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _summarise(outcomes: Sequence[Outcome], planned: bool) -> None:
    """The table of a sweep; of plans, which have no results, only how many failed."""
    from rcc.composing.outcomes import table

    if not planned:
        print(f"\n{table(outcomes)}", flush=True)
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed:
        tell(f"{len(failed)} of {len(outcomes)} jobs failed.")


def _exit_code(outcomes: Sequence[Outcome], alone: bool) -> int:
    """0 when every job was done, the code that all failures share, else 1; 3 when a job of no sweep missed its
    target."""
    if alone and any(outcome.missed for outcome in outcomes):
        return MISSED
    codes = {outcome.exit_code for outcome in outcomes if outcome.error}
    return 0 if not codes else codes.pop() if len(codes) == 1 else 1


def _interrupted(told: Command) -> str:
    from rcc.composing.resume import RECORD

    if told.sweep is not None:
        return f"interrupted. Continue with: {command_line(f'resume={told.sweep}', *told.again)}"
    overrides = told.outcomes[-1].overrides if told.outcomes else ()
    directory = told.outcomes[-1].directory if told.outcomes else None
    if directory is None or not (directory / RECORD).is_file():
        return "interrupted before anything was saved."
    if "job=evaluate" in overrides:
        return "interrupted. It has no steps to continue from: start it afresh."
    return f"interrupted. Continue with: {resume_line(directory, overrides)}"


def _is_sweep(flags: Namespace) -> bool:
    return bool(flags.multirun) or any(text == "hydra.mode=MULTIRUN" for text in flags.overrides)


def _without(arguments: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The flags among the arguments, with their values."""
    left = list(overrides)
    kept = []
    for argument in reversed(arguments):
        if argument in left:
            left.remove(argument)
        else:
            kept.append(argument)
    return kept[::-1]


def _config_dir(arguments: Sequence[str]) -> list[str]:
    """The flag among the arguments that every command of the same run needs again."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    found = parser.parse_known_args(list(arguments))[0].config_dir
    return [] if found is None else ["--config-dir", found]


@contextmanager
def _argv(arguments: Sequence[str]) -> Iterator[None]:
    """Hydra reads the process's arguments."""
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before


if __name__ == "__main__":
    sys.exit(main())
