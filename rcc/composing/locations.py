"""Locate and read the YAML files without Hydra, so that help stays instant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rcc.errors import WorkError

HYDRA_GROUP = "hydra"
"""The folder that adds choices to Hydra's own groups; its files are not groups of this project."""


def config_dir() -> Path:
    """The folder of the config files: inside an installed package, or beside it in a checkout.

    Raises:
        WorkError: neither is there, so that the installation is broken.
    """
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise WorkError(
        f"the config files are missing: neither {package / 'conf'} nor {package.parent / 'conf'} holds a "
        "config.yaml. Install the package again."
    )


def groups(directory: Path) -> list[str]:
    """The config groups: folders of `directory`, without Hydra's own."""
    return sorted(path.name for path in directory.iterdir() if path.is_dir() and path.name != HYDRA_GROUP)


def choices(directory: Path, group: str) -> list[str]:
    """The choices of a group: one a YAML file."""
    return sorted(path.stem for path in (directory / group).glob("*.yaml"))


def about(directory: Path, group: str, choice: str) -> str:
    """The first sentence of a choice's header comment."""
    with (directory / group / f"{choice}.yaml").open(encoding="utf-8") as lines:
        for line in lines:
            text = line.removeprefix("#").strip()
            if line.startswith("#") and text and not text.startswith("@"):
                return text
    return ""


def default_choices(directory: Path) -> dict[str, str | None]:
    """The choice of each group when nothing is asked for, from the defaults list of config.yaml."""
    found: dict[str, str | None] = {}
    for entry in _primary(directory)["defaults"]:
        if isinstance(entry, dict):
            (key, value), *_ = entry.items()
            if not key.startswith("override "):
                found[key] = value
    return found


def default_options(directory: Path) -> dict[str, Any]:
    """The options at the top level of config.yaml with their defaults, as written."""
    return {key: value for key, value in _primary(directory).items() if key not in ("defaults", "hydra")}


def _primary(directory: Path) -> dict[str, Any]:
    import yaml

    loaded: dict[str, Any] = yaml.safe_load((directory / "config.yaml").read_text(encoding="utf-8"))
    return loaded
