"""The commands at the head of every config and in the documentation compose, and their parts go together."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rcc.composing.composition import Composer
from rcc.composing.overrides import verbatim
from rcc.shipped import config_dir

ROOT = Path(__file__).parents[2]
FILES = [*sorted(config_dir().rglob("*.yaml")), *sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"]
COMMAND = re.compile(r"^(?:#   |    )?rcc-run (\S.*?)(?:\s+#.*)?$", re.MULTILINE)
ELSEWHERE = ("-", "resume=", "hydra.")
CAPTIONED = {"coco", "conceptual_captions", "flickr30k", "flickr8k", "image_text"}
FITS = {
    "blip": {"captioning"},
    "clip_vision": {"efficiency", "probing"},
    "module": {"classification"},
    "text_encoder": {"search"},
    "vit": {"classification"},
    "whisper": {"efficiency", "probing"},
}


def commands() -> list[str]:
    found = {command for file in FILES for command in COMMAND.findall(file.read_text()) if not command.endswith("\\")}
    return sorted(command for command in found if not any(word.startswith(ELSEWHERE) for word in command.split(" ")))


def test_there_are_commands_of_every_kind() -> None:
    assert len(commands()) > 50
    for group in ("model", "data", "eval", "stage", "schedule", "job"):
        assert any(f"{group}=" in command for command in commands())


@pytest.mark.parametrize("command", commands())
def test_a_documented_command_composes_and_its_evaluator_fits(configs: Composer, command: str) -> None:
    words = [verbatim(word) for word in shlex.split(re.sub(r"<[^>]*>", "somewhere", command))]
    cfg = configs.compose(words)
    if cfg.get("eval") is None:  # a job that measures nothing
        return
    evaluators, choices = set(cfg.eval), cfg.hydra.runtime.choices
    if cfg.get("artifact") is not None and choices.model != "module":
        return
    if choices.get("model") in FITS:
        assert FITS[choices.model] & evaluators
    elif choices.data in CAPTIONED:
        assert evaluators & {"retrieval", "captioning"}
