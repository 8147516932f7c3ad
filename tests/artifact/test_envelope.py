"""What an artifact takes besides the data of its weights, without writing those."""

from pathlib import Path

import pytest
import torch

from rcc.artifact.envelope import Envelope
from rcc.artifact.size import dense_bytes
from rcc.artifact.write import write_artifact
from rcc.cascade.bytes.forecast import forecast
from rcc.models.registry import load_model, load_skeleton


@pytest.fixture(scope="module")
def model():
    return load_model("clip_tiny", device="cpu")


def test_the_forecast_and_the_envelope_are_the_directory_to_the_byte(model, tmp_path):
    config, metrics = {"stage": {"dare": {"a": 0.5}}}, {"test": {"accuracy": 0.25}}
    envelope = Envelope(model, tmp_path / "new", config)
    made = forecast(model, (), torch.float16, "none")
    size = write_artifact(model, tmp_path / "artifact", "float16", config, metrics, "none")
    assert made.matrices + made.rest + envelope.nbytes(model, made.contents, metrics) == size.directory_bytes
    assert list(Path(tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("dtype", ["float32", "float16", None])
def test_a_skeleton_is_enough_for_the_bytes_of_the_dense_directory(model, tmp_path, dtype):
    written = dense_bytes(model, dtype, tmp_path)
    assert Envelope(load_skeleton("clip_tiny"), tmp_path).dense_bytes(load_skeleton("clip_tiny"), dtype) == written
    assert list(tmp_path.iterdir()) == []
