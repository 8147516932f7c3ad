"""Name the real models of `real_models.py`; each is one file: dense model, data, metric, what is to be reached."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rcc.errors import Problems
from subjects.subject import Subject

SUBJECTS = {
    "lite0": "subjects.lite0:Lite0",
    "minilm": "subjects.minilm:MiniLM",
    "digits": "subjects.digits:Digits",
    "resnet20": "subjects.resnet20:ResNetOnPhotographs",
    "whisper": "subjects.whisper:Whisper",
    "smollm2": "subjects.smollm2:SmolLM2",
}


def subject_of(name: str, data: Path, work: Path) -> Subject:
    """The subject of that name; its model and data are read when they are asked for."""
    module, _, attribute = SUBJECTS[name].partition(":")
    made: Subject = getattr(import_module(module), attribute)(data, work)
    return made


def known(names: Sequence[str]) -> list[str]:
    """`names`, each once.

    Raises:
        UserError: one that is no subject.
    """
    problems = Problems("--subjects")
    for name in names:
        problems.choice("subject", name, SUBJECTS)
    problems.done()
    return list(dict.fromkeys(names))
