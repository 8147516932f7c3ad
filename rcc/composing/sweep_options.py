"""Give each job of a sweep the options of what it has: those of stages and models that only other jobs have pass it by.

Hydra composes a sweep's fixed arguments once before it composes its jobs, and every argument must fit there and in each
job. What fits only some is forced in by '++', and taken out again where the job has no place for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from omegaconf import DictConfig, OmegaConf

from rcc.command_line import key_of
from rcc.composing.composition import Composer
from rcc.composing.overrides import quoted, unquoted
from rcc.sweeps.storage import keep_password

OF_A_SWEEP = (
    "n_trials",
    "objectives",
    "constraints",
    "sampler",
    "first",
    "baselines",
    "early_stopping",
    "retry",
    "storage",
    "workers",
)
"""Options of conf/hydra/sweeper/ that may be given by their name alone."""
STORAGE = "hydra.sweeper.storage"


def option_of(text: str) -> str:
    """The dotted path that an argument sets; empty for one that chooses of a group, or is Hydra's."""
    key = key_of(text)
    return key if "." in key and "@" not in key and not key.startswith("hydra") else ""


def has(cfg: DictConfig, option: str) -> bool:
    """Whether a config as shipped has a place for `option`; null and an empty mapping have one for all below them."""
    node = cfg
    for part in option.split("."):
        if not isinstance(node, DictConfig) or not node:
            return True
        if part not in node:
            return False
        node = node[part]
    return True


def spelled_out(texts: Sequence[str]) -> list[str]:
    """The arguments with options of the sweep itself as Hydra knows them: n_trials=40 is hydra.sweeper.n_trials=40."""
    return [f"hydra.sweeper.{text}" if key_of(text) in OF_A_SWEEP else text for text in texts]


def without_passwords(texts: Sequence[str]) -> list[str]:
    """The arguments with the URL of a database as it may be shown; its password goes to the environment."""
    return [_shown(text) if key_of(text) == STORAGE else text for text in texts]


def _shown(text: str) -> str:
    key, _, value = text.partition("=")
    url = unquoted(value)
    return f"{key}={quoted(keep_password(url))}" if "://" in url and "${" not in url else text


def forced(texts: Sequence[str], configs: Composer) -> list[str]:
    """The arguments of a sweep for Hydra, with '++' before options that its fixed choices have no place for."""
    groups = configs.groups()
    arguments, _ = configs.read(texts)
    fixed = [argument.text for argument in arguments if not argument.swept and argument.key in groups]
    base = configs.compose(fixed)
    return [
        f"++{text}" if (option := option_of(text)) and text[0] not in "+~" and not has(base, option) else text
        for text in texts
    ]


def heard(cfg: DictConfig, texts: Sequence[str], shipped: DictConfig) -> tuple[DictConfig, list[str]]:
    """A job's config and its arguments without what only other jobs of its sweep have.

    Args:
        shipped: the config of the job's choices alone.
    """
    kept, own = cfg.copy(), []
    OmegaConf.set_struct(kept, False)
    for text in texts:
        option = option_of(text)
        if option and text.startswith("++") and not has(shipped, option):
            _remove(kept, option.split("."), shipped)
        else:
            own.append(text.removeprefix("++"))
    return kept, own


def _remove(cfg: DictConfig, path: Sequence[str], shipped: DictConfig) -> None:
    """Take out the highest node on `path` that `shipped` has not."""
    first, *rest = path
    if first not in shipped:
        cfg.pop(first, None)
    elif rest and first in cfg:
        _remove(cfg[first], rest, shipped[first])


def of_combination(options: Sequence[str], here: DictConfig | None, every: Mapping[str, bool]) -> list[str]:
    """The options that a combination of choices has a place for, or that none has.

    Args:
        here: the combination as shipped; None where it cannot be composed.
        every: for each option, whether any combination has a place for it.
    """
    return [
        text
        for text in options
        if not (option := option_of(text)) or here is None or has(here, option) or not every.get(option, False)
    ]
