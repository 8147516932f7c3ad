"""Artifacts and checkpoints damaged or forged at random, by fixed seeds: loaded, or refused by a message."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toys.mutations import damage, mutate, replace

from rcc.artifact.container import end_of_file, read_layout
from rcc.artifact.load import load
from rcc.artifact.manifest import checksum
from rcc.artifact.write import write_artifact
from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.layers.grid import from_grid, powers
from rcc.models.transformers.clip import CLIPWrapper
from rcc.stages.quant.vectors import round_vectors

ARTIFACTS, CHECKPOINTS = 200, 150


@pytest.fixture
def forged(clip: CLIPWrapper, tmp_path: Path) -> Path:
    for unit in clip.units():
        if unit.kind == "linear" and unit.name.endswith("fc1"):
            weight = unit.read().dense().detach()
            kept = weight.masked_fill(weight.abs() < weight.abs().mean(), 0.0)
            step = powers(
                (kept.abs().amax(1) / 3).log2().mul(8).ceil(), torch.float16
            ).float()  # digits of three levels
            whole = (kept / step[:, None]).round().to(torch.int8)
            unit.write(Form(sparse=from_grid(whole, step), sparse_step=step, bias=unit.read().bias))
    round_vectors(clip.module, torch.float16)
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


def reworked(path: Path, seed: int) -> str:
    """Damage the file of an artifact, or change its manifest under checksums that are right; returns what was done."""
    draw = random.Random(seed)
    if draw.random() < 0.3:
        return damage(path, draw)
    layout, content = read_layout(path), path.read_bytes()
    manifest = json.loads(layout.manifest)
    done = replace(manifest, draw)
    manifest["checksum"] = checksum(manifest)
    end = end_of_file(layout.files, json.dumps(manifest).encode())
    path.write_bytes(content[: layout.begin + layout.data] + end)
    return done


def test_any_file_of_an_artifact_loads_or_is_refused(forged: Path, clip: CLIPWrapper, tmp_path: Path) -> None:
    sound, failed = tmp_path / "sound.rcc", []
    write_artifact(clip, sound, dtype="float16", container="file")
    for seed in range(ARTIFACTS):
        target = tmp_path / f"{seed}.rcc"
        shutil.copyfile(sound, target)
        done = reworked(target, seed)
        try:
            load(target)
        except UserError as error:
            if not str(error) or "Traceback" in str(error):
                failed.append(f"{seed} {done}: no message")
        except BaseException as error:
            failed.append(f"{seed} {done}: {type(error).__name__}: {error}")
        target.unlink()
    assert failed == []


def test_any_checkpoint_loads_or_is_refused(clip_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_checkpoint, tmp_path / "sound")
    found = (clean(CLIPWrapper.load, tmp_path / "sound", seed) for seed in range(CHECKPOINTS))
    assert [each for each in found if each] == []
