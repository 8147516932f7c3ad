"""Artifacts and checkpoints damaged or forged at random, by fixed seeds: loaded, or refused by a message."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys.mutations import mutate

from rcc.artifact.load import load
from rcc.artifact.write import write_artifact
from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.models.transformers.clip import CLIPWrapper

ARTIFACTS, CHECKPOINTS = 200, 150


@pytest.fixture
def forged(clip: CLIPWrapper, tmp_path: Path) -> Path:
    for unit in clip.units():
        if unit.kind == "linear" and unit.name.endswith("fc1"):
            weight = unit.read().dense().detach()
            unit.write(Form(sparse=weight.masked_fill(weight.abs() < weight.abs().mean(), 0.0), bias=unit.read().bias))
    write_artifact(clip, tmp_path / "sound", dtype="float16")
    return tmp_path / "sound"


def clean(read: Callable[[Path], Any], directory: Path, seed: int) -> str:
    """What was done and what came of it, if that is no model and no message; empty where all is well."""
    target = directory.parent / f"{seed}"
    shutil.copytree(directory, target)
    done = mutate(target, seed)
    try:
        read(target)
    except UserError as error:
        return "" if str(error) and "Traceback" not in str(error) else f"{seed} {done}: no message"
    except BaseException as error:
        return f"{seed} {done}: {type(error).__name__}: {error}"
    finally:
        shutil.rmtree(target)
    return ""


def test_any_artifact_loads_or_is_refused(forged: Path) -> None:
    assert [found for seed in range(ARTIFACTS) if (found := clean(load, forged, seed))] == []


def test_any_checkpoint_loads_or_is_refused(clip_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_checkpoint, tmp_path / "sound")
    found = (clean(CLIPWrapper.load, tmp_path / "sound", seed) for seed in range(CHECKPOINTS))
    assert [each for each in found if each] == []
