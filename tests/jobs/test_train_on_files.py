"""job=train on files as data sets are published: captions from parquet, and classes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

SMALL = (
    "trainer.epochs=1", "trainer.batch_size=8", "trainer.augmentation=crop", "trainer.vocabulary=540",
    "trainer.architecture={hidden: 32, mlp: 64, heads: 2, vision_layers: 1, text_layers: 1, image: 16, context: 24}",
    "threads=1", "device=cpu", "hydra.run.dir=trained",
)  # fmt: skip
DATA = ("data=flickr8k", "data.path=flickr8k", "data.calibration=4")


def row(number: int) -> dict[str, Any]:
    """An image of noise and three captions, as the data set's files hold them."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    captions = [f"A dog runs past the number {number} , told the {time}. time ." for time in range(3)]
    name = f"{number}.png"
    return {"image": {"bytes": buffer.getvalue(), "path": name}, "captions": captions, "filename": name}


@pytest.fixture
def flickr8k(tmp_path: Path) -> None:
    (tmp_path / "flickr8k").mkdir()
    for name, numbers in {"train": range(20), "validation": range(20, 32), "test": range(32, 44)}.items():
        pq.write_table(pa.Table.from_pylist([row(number) for number in numbers]), tmp_path / f"flickr8k/{name}.parquet")


@pytest.mark.usefixtures("flickr8k")
def test_captions_train_a_checkpoint_that_retrieval_measures(rcc_run, tmp_path):
    code, out, err = rcc_run("job=train", *DATA, "eval=retrieval", *SMALL)
    assert code == 0, err
    assert "Compress it: rcc-run model=clip model.path=trained/checkpoint " + " ".join((*DATA, "eval=retrieval")) in out
    record = json.loads((tmp_path / "trained/checkpoint/TRAINING.json").read_text())
    assert record["history"]["kept"] == 1
    code, _, err = rcc_run(
        "job=evaluate", "model=clip", "model.path=trained/checkpoint", *DATA, "eval=retrieval", "device=cpu",
        "threads=1", "hydra.run.dir=again",
    )  # fmt: skip
    assert code == 0, err
    measured = json.loads((tmp_path / "again/evaluation.json").read_text())
    assert _numbers(measured)["r_mean"] == pytest.approx(record["test"]["r_mean"], abs=1e-6)


@pytest.mark.usefixtures("flickr8k")
def test_zero_shot_of_captions_is_refused_before_training(rcc_run):
    code, out, err = rcc_run("job=train", *DATA, "eval=zero_shot", *SMALL)
    assert code == 2
    assert "class" in err
    assert "Checkpoint" not in out


def _numbers(found: object) -> dict[str, float]:
    """The value of every metric in a JSON document, by name."""
    if isinstance(found, dict):
        own = {found["name"]: found["value"]} if {"name", "value"} <= set(found) else {}
        return own | {name: value for part in found.values() for name, value in _numbers(part).items()}
    if isinstance(found, list):
        return {name: value for part in found for name, value in _numbers(part).items()}
    return {}
