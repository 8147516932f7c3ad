"""Any value of any option of any YAML file is accepted, or refused with the option's name; nothing else happens."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from omegaconf import OmegaConf

from rcc import shipped
from rcc.composing.checks import problems
from rcc.composing.composition import Composer, own
from rcc.run import problems as deep

CONF = shipped.config_dir()
VALUES = [
    "null",
    "5",
    "-1",
    "0",
    "0.5",
    "1e20",
    "nan",
    "true",
    "abc",
    "''",
    "[]",
    "[1]",
    "[a]",
    "{a: 1}",
    "a/b",
    "${seed}",
]
DRAWN = 60
BESIDE = {"pretrain": ["job=train", "trainer=pretrain"], "efficiency": ["eval=zero_shot+efficiency"]}
"""What a choice needs beside itself."""


def leaves(node: dict[str, Any], path: str) -> Iterator[str]:
    for key, value in node.items():
        place = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            yield from leaves(value, place)
        elif not key.startswith("_"):
            yield place


def settings(configs: Composer) -> Iterator[tuple[list[str], str]]:
    """Every option of every choice, with the words that choose it."""
    for group in shipped.groups(CONF):
        for choice in [] if group in ("experiment", "debug") else shipped.choices(CONF, group):
            words = BESIDE.get(choice, [f"{group}={choice}"])
            cfg = OmegaConf.to_container(own(configs.compose(words)))
            assert isinstance(cfg, dict)
            if group == "job":
                own_options = {key: cfg[key] for key in (*shipped.default_options(CONF, choice), "seed", "threads")}
                yield from ((words, option) for option in leaves(own_options, ""))
            else:
                node = cfg[group][choice] if group in ("stage", "eval") else cfg[group]
                where = f"{group}.{choice}" if group in ("stage", "eval") else group
                yield from ((words, option) for option in leaves(node, where))


def drawn(configs: Composer, seed: int, count: int) -> list[tuple[list[str], str, str]]:
    every = list(settings(configs))
    chooser = random.Random(seed)
    return [(*chooser.choice(every), chooser.choice(VALUES)) for _ in range(count)]


@pytest.mark.parametrize("seed", [0])
def test_any_value_of_any_option_is_taken_or_refused_by_name(configs: Composer, seed: int) -> None:
    refused = 0
    for words, option, value in drawn(configs, seed, DRAWN):
        found = problems([*words, f"{option}={value}"], configs, deep=deep)
        refused += bool(found)
        *_, name = option.split(".")
        assert all(name in told or "needs" in told for told in found), (words, option, value, found)
    assert refused > DRAWN / 3
