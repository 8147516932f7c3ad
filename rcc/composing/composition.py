"""Composing configs without running anything, for the checks and for resume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from omegaconf import DictConfig

from rcc.composing import joined, overrides
from rcc.composing.overrides import Argument
from rcc.errors import UserError, nearest
from rcc.limits import expanded
from rcc.shipped import HYDRA_GROUP, config_dir

CONFIG_NAME = "config"
PRESETS = ("experiment", "debug")
"""Groups whose files set other groups' options and bring none of their own."""


class Composer:
    """Composes overrides on the shipped configs, and knows the groups and choices there are.

    `folder` is a folder of further configs, as of Hydra's `--config-dir`.
    """

    def __init__(self, loader: ConfigLoader, folder: Path | None = None) -> None:
        self.loader = loader
        self._always = [] if folder is None else [f"hydra.searchpath=['file://{folder.resolve()}']"]
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._listed: dict[str, list[str]] = {}
        self._read: dict[tuple[str, ...], tuple[list[Argument], list[str]]] = {}

    def read(self, texts: Sequence[str]) -> tuple[list[Argument], list[str]]:
        """The arguments of `texts` that can be read, and what is wrong with the others."""
        key = tuple(texts)
        if key not in self._read:
            self._read[key] = overrides.read(texts, self.loader)
        return self._read[key]

    def compose(self, texts: Sequence[str]) -> DictConfig:
        """The config of overrides, with Hydra's own node; not to be changed. Raises what Hydra raises."""
        key = tuple(texts)
        if key not in self._composed:
            self._composed[key] = compose(CONFIG_NAME, [*self._always, *texts], return_hydra_config=True)
        return self._composed[key]

    def groups(self) -> list[str]:
        return [group for group in self._names("", ObjectType.GROUP) if group != HYDRA_GROUP]

    def choices(self, group: str) -> list[str]:
        return self._names(group, ObjectType.CONFIG)

    def of_job(self, job: str | None = None) -> DictConfig:
        """The config of a job, or of the default one, as it ships."""
        default = self.compose([])
        return default if job in (None, default.hydra.runtime.choices.job) else self.compose([f"job={job}"])

    def shipped(self, choices: Mapping[str, str]) -> DictConfig:
        """The config of the choices of the groups alone, without presets and options."""
        job = self.of_job(choices.get("job"))
        brought = job.hydra.runtime.choices
        groups = [group for group in self.groups() if group not in PRESETS and choices.get(group) is not None]
        others = [f"{group}={choices[group]}" for group in groups if choices[group] != brought.get(group)]
        return self.compose([f"job={brought.job}", *others]) if others else job

    def _names(self, group: str, kind: ObjectType) -> list[str]:
        if group not in self._listed:
            listed = self.loader.get_group_options(group, kind, CONFIG_NAME, self._always)
            self._listed[group] = sorted(name for name in listed if name.isidentifier())
        return self._listed[group]


def config_folder(asked: str | None) -> Path | None:
    """The folder of `--config-dir`; None where none is asked for.

    Raises:
        UserError: there is no such folder, or its name means something to Hydra.
    """
    if not asked:
        return None
    folder = expanded("--config-dir", asked)
    if any(special in str(folder.resolve()) for special in ("${", "'")):
        raise UserError(
            f"--config-dir {asked}: Hydra reads '${{' and quotes in its path. Give the folder another name."
        )
    if not folder.is_dir():
        near = [str(each) for each in folder.parent.iterdir() if each.is_dir()] if folder.parent.is_dir() else []
        raise UserError(
            f"--config-dir {asked}: there is no such folder.{nearest(asked, near)} It holds further choices, such as"
            " experiment/mine.yaml."
        )
    return folder


@contextmanager
def composer(folder: Path | None = None) -> Iterator[Composer]:
    """A `Composer`, in a Hydra of its own; whatever was initialised before is so again afterwards."""
    state = GlobalHydra.instance()
    before, state.hydra = state.hydra, None
    try:
        with initialize_config_dir(str(config_dir()), job_name="rcc"):
            yield Composer(GlobalHydra.instance().config_loader(), folder)
    finally:
        GlobalHydra.instance().hydra = before


def own(cfg: DictConfig) -> DictConfig:
    """The config without Hydra's node: what a job receives."""
    from omegaconf import OmegaConf

    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != HYDRA_GROUP])


def chosen(cfg: DictConfig, groups: Sequence[str]) -> dict[str, str]:
    """The choice of each group in a composed config; groups without one are left out."""
    choices = cfg.hydra.runtime.choices
    return {group: str(choices[group]) for group in groups if choices.get(group) is not None}


def misplaced(cfg: DictConfig) -> str:
    """Why the joined groups of a composed config are not those of its choices in their order; empty when they are."""
    for group, choice in chosen(cfg, list(joined.GROUPS)).items():
        wanted, found = joined.labels(group, choice), [str(label) for label in cfg.get(group) or ()]
        if found == wanted:
            continue
        noun = joined.GROUPS[group].noun
        for label, name in joined.labelled(group, choice):
            if label not in found:
                return (
                    f"the options of {noun} '{name}' do not arrive under its name: the first line of its file "
                    f"must be '# @package {group}.{name}'."
                )
        return f"{group}={choice} was composed as {joined.SEPARATOR.join(found)}: the order of the {noun}s was lost."
    return ""
