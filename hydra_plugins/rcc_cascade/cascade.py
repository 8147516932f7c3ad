"""Serve choices that exist in no file to Hydra: `stage/dare+nullu` is `stage/dare` and `stage/nullu`.

The source answers only for names with a '+' in the groups of `rcc.composing.joined`, with a defaults list that puts
each name's file under its label. Everything else stays with Hydra's own sources, and with it overrides, sweeps,
experiment files, `--cfg`, `--info` and the folders of `--config-dir`.
"""

from __future__ import annotations

import os
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from rcc.composing import joined
from rcc.shipped import choices, config_dir

SCHEME = "rcc-joined"


class JoinedSource(ConfigSource):
    """Serves `<group>/<name>+<name>…`; its path is the folder of the config files."""

    @staticmethod
    def scheme() -> str:
        return SCHEME

    def available(self) -> bool:
        return True

    def is_config(self, config_path: str) -> bool:
        return self._choice(config_path) is not None

    def is_group(self, config_path: str) -> bool:
        return config_path in joined.GROUPS and _word_to_complete(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """What may follow the '+' or ',' that the word under completion ends in; nothing at other times."""
        word = _word_to_complete(config_path)
        if config_path not in joined.GROUPS or word is None or results_filter == ObjectType.GROUP:
            return []
        begun = word[: max(word.rfind(joined.SEPARATOR), word.rfind(",")) + 1]
        named = [] if joined.GROUPS[config_path].repeats else joined.names(word.rpartition(",")[2])
        return [begun + name for name in choices(Path(self.path), config_path) if name not in named] if begun else []

    def load_config(self, config_path: str) -> ConfigResult:
        asked = self._choice(config_path)
        assert asked is not None, config_path
        defaults = [f"{name}@{label}" for label, name in joined.labelled(*asked)]
        return ConfigResult(
            provider=self.provider,
            path=self.full_path(),
            config=OmegaConf.create({"defaults": [*defaults, "_self_"]}),
            header={"package": None},
        )

    @staticmethod
    def _choice(config_path: str) -> tuple[str, str] | None:
        """The group and the choice, where it is one of several names."""
        group, _, choice = config_path.removesuffix(".yaml").rpartition("/")
        return (group, choice) if group in joined.GROUPS and joined.SEPARATOR in choice else None


class JoinedSearchPath(SearchPathPlugin):
    """Adds the source to this project's own application and to no other in the same environment."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        main = next((entry.path for entry in search_path.get_path() if entry.provider == "main"), None)
        ours = config_dir()
        if main and Path(main.removeprefix("file://")).resolve() == ours:
            search_path.append("rcc-joined", f"{SCHEME}://{ours}")


def _word_to_complete(group: str) -> str | None:
    """What the shell asks to complete after `<group>=`, or None when it asks for something else or nothing."""
    word = os.environ.get("COMP_LINE", "").split(" ")[-1]
    key, equals, value = word.lstrip("+").partition("=")
    return value if equals and key == group else None
