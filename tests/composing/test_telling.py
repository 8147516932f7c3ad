"""Errors as the user reads them: one message on stderr, the exit code of its kind, a stack where nobody foresaw it."""

from __future__ import annotations

import errno
import os
from importlib.util import find_spec

import pytest
from hydra.errors import HydraException, MissingConfigException

from rcc.composing.checks import problems
from rcc.composing.composition import composer
from rcc.composing.telling import FULL_ERROR, PLUGINS, hydra_raises, in_words, plain, report, stacks_wanted
from rcc.errors import UserError, WorkError


def told(capsys: pytest.CaptureFixture[str], error: BaseException, stacks: bool = False) -> tuple[int, str]:
    code = report(error, stacks)
    shown = capsys.readouterr()
    assert shown.out == ""
    return code, shown.err


def test_one_problem_is_one_line_and_several_are_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, UserError("no such model.")) == (2, "rcc-run: no such model.\n")
    assert told(capsys, UserError("a.", "b.")) == (2, "rcc-run: 2 problems:\n  - a.\n  - b.\n")
    assert told(capsys, WorkError("the weights hold NaN.")) == (1, "rcc-run: the weights hold NaN.\n")


def test_a_stack_is_shown_where_it_is_asked_for_or_nobody_foresaw_the_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, shown = told(capsys, UserError("no such model."), stacks=True)
    assert code == 2
    assert "rcc.errors.UserError: no such model." in shown
    assert shown.endswith("rcc-run: no such model.\n")
    code, shown = told(capsys, ZeroDivisionError("division by zero"))
    assert code == 1
    assert "ZeroDivisionError: division by zero" in shown
    assert shown.endswith("rcc-run: this error was not foreseen; the stack above says where it happened.\n")


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, WorkError), (errno.EDQUOT, WorkError), (errno.EACCES, UserError), (errno.EROFS, UserError)],
)
def test_a_folder_that_cannot_be_written_is_told_with_the_way_out(number: int, kind: type[Exception]) -> None:
    found = plain(OSError(number, os.strerror(number), "outputs/run"))
    assert isinstance(found, kind)
    assert str(found) == (
        f"cannot write outputs/run: {os.strerror(number)}. "
        "Give another folder: rcc-run hydra.run.dir=<directory>, or hydra.sweep.dir=<directory> with -m."
    )


def test_other_errors_are_nobodys_own() -> None:
    assert plain(OSError(errno.ENOENT, "no such file", "x")) is None
    assert plain(KeyError("x")) is None


def test_hydras_search_path_and_hints_are_left_out_and_the_cause_is_added() -> None:
    error = HydraException("Key 'x' is not in struct.\nTo append to your config use +x=1\nSearch path: a")
    error.__cause__ = ValueError("the cause\nand more")
    assert in_words(error) == "Key 'x' is not in struct. the cause"
    assert in_words(HydraException("")) == "HydraException"
    assert in_words(UserError("ours")) == "ours"


def test_a_missing_choice_is_told_with_the_nearest_and_all_there_are() -> None:
    error = MissingConfigException("Could not find 'stage/dar'\n\nAvailable options in 'stage':\n\tdare", "stage/dar")
    assert in_words(error, {"stage": ["alpha", "dare"]}.__getitem__) == (
        "unknown stage 'dar'. Did you mean 'dare'? Available: alpha, dare."
    )


@pytest.mark.parametrize("before", [None, "0", "1"])
def test_inside_hydra_raises_and_afterwards_the_environment_is_as_it_was(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.delenv(FULL_ERROR, raising=False) if before is None else monkeypatch.setenv(FULL_ERROR, before)
    with hydra_raises():
        assert stacks_wanted()
    assert os.environ.get(FULL_ERROR) == before
    with pytest.raises(UserError, match="wrong"), hydra_raises():
        raise HydraException("wrong")
    assert os.environ.get(FULL_ERROR) == before


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ValueError("bad value"), UserError),
        (OSError(errno.ENOSPC, "no space", "outputs"), WorkError),
        (OSError(errno.EACCES, "denied", "outputs"), UserError),
        (BrokenPipeError(), BrokenPipeError),
        (ZeroDivisionError(), ZeroDivisionError),
    ],
)
def test_what_is_raised_inside_comes_out_as_its_kind(raised: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind), hydra_raises():
        raise raised


@pytest.mark.parametrize(
    ("group", "name", "package"),
    [
        (group, name, package)
        for group, names in PLUGINS.items()
        for name, package in names.items()
        if find_spec(f"hydra_plugins.{package.replace('-', '_')}") is None
    ],
)
def test_a_plugin_of_hydra_that_is_not_installed_is_told_with_its_package(group, name, package) -> None:
    with composer() as configs:
        (problem,) = problems([f"{group}={name}"], configs, multirun=True)
    assert problem.startswith(f"unknown {group} '{name}'.")
    assert "Available: basic" in problem
    assert problem.endswith(f"'{name}' comes with a plugin that is not installed: pip install {package}")


def test_a_launcher_that_nobody_knows_is_told_with_those_there_are() -> None:
    with composer() as configs:
        (problem,) = problems(["hydra/launcher=basix"], configs, multirun=True)
    assert problem.startswith("unknown hydra/launcher 'basix'. Did you mean 'basic'? Available: basic")
