"""Run a composed config: make the job that it describes, and do it.

What Hydra composed becomes plain Python here; jobs know nothing of Hydra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rcc.errors import UserError
from rcc.jobs.job import Abandonment, Job
from rcc.plugins import build

NAMED = ("model", "data", "trainer")
"""Groups whose choice reports and messages call by name."""


def run(
    cfg: DictConfig, choices: Mapping[str, str], directory: Path, overrides: Sequence[str]
) -> tuple[float, float] | Abandonment | None:
    """Do the job that `cfg` describes, in the directory that Hydra chose.

    Returns:
        For job=compress (retention on the selection split, bytes of the artifact's directory), the two
        objectives of a sweep, or why its search stopped it early; otherwise None.

    Raises:
        UserError: every problem of the config at once, or an input that turns out wrong.
        WorkError: the work failed.
    """
    return read(cfg, choices, directory, overrides).run()


def report_sweep(folder: Path) -> None:
    """Draw the page of a sweep that has ended."""
    from rcc.jobs.pages import draw_sweep

    draw_sweep(folder)


def problems(cfg: DictConfig, choices: Mapping[str, str]) -> list[str]:
    """Everything that is wrong with a composed config, without doing anything; empty when nothing is."""
    try:
        read(cfg, choices)
    except UserError as error:
        return list(error.problems)
    return []


def read(cfg: DictConfig, choices: Mapping[str, str], directory: Path = Path(), overrides: Sequence[str] = ()) -> Job:
    """The job of a config, its settings checked. Each group that has one choice gets the choice as its `name`.

    Args:
        choices: that of each group.

    Raises:
        UserError: all the problems found.
    """
    settings = _plain(cfg, choices, resolve=True)
    job: Job = build(
        f"job={choices['job']}",
        Job,
        settings["job"],
        settings=settings,
        published=_plain(cfg, choices, resolve=False),
        directory=directory,
        overrides=overrides,
        config_text=OmegaConf.to_yaml(cfg, resolve=True),
    )
    return job


def _plain(cfg: DictConfig, choices: Mapping[str, str], resolve: bool) -> dict[str, Any]:
    """The config as plain data, with values of interpolations or with what was typed."""
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=resolve)  # type: ignore[assignment]
    named = [group for group in NAMED if group in settings and group in choices]
    return settings | {group: {"name": choices[group], **settings[group]} for group in named}
