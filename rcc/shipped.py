"""Read the YAML files that ship with the package, without Hydra: which choices there are, and what each one builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rcc.errors import UserError, WorkError, unknown

HYDRA_GROUP = "hydra"
"""The folder that adds choices to Hydra's own groups; its files are not groups of this project."""


def config_dir() -> Path:
    """The folder of the config files: inside an installed package, or beside it in a checkout.

    Raises:
        WorkError: neither is there, so that the installation is broken.
    """
    package = Path(__file__).resolve().parent
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


def target(group: str, choice: str) -> str:
    """The import path of what a shipped choice builds: its `_target_`.

    Raises:
        UserError: there is no such choice; the message lists what there is.
    """
    directory = config_dir()
    names = choices(directory, group)
    if choice not in names:
        raise UserError(unknown(group, choice, names))
    return str(_read(directory / group / f"{choice}.yaml")["_target_"])


def default_choices(directory: Path, job: str | None = None) -> dict[str, str | None]:
    """The choice of each group when nothing is asked for but the job: those that all jobs share and the job's own."""
    found = _defaults(_read(directory / "config.yaml"))
    found["job"] = job or found["job"]
    return found | _defaults(_read(directory / "job" / f"{found['job']}.yaml"))


def default_options(directory: Path, job: str | None = None) -> dict[str, Any]:
    """The options with their defaults, as written: a job's own, or without a job those that all share."""
    path = directory / "config.yaml" if job is None else directory / "job" / f"{job}.yaml"
    return {key: value for key, value in _read(path).items() if key not in ("defaults", "hydra", "job")}


def _defaults(content: dict[str, Any]) -> dict[str, str | None]:
    """The choices of a defaults list, by group."""
    pairs = [pair for entry in content["defaults"] if isinstance(entry, dict) for pair in entry.items()]
    return {key.removeprefix("/"): value for key, value in pairs if not key.startswith("override ")}


def _read(path: Path) -> dict[str, Any]:
    import yaml

    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded
