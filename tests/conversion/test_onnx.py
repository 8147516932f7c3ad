"""ONNX graphs: what onnxruntime computes is what the model computes, for any number of items and tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rcc.conversion.onnx import Graph, check_installed, graphs_of, run_onnx, write_onnx
from rcc.errors import Problems, UserError, WorkError

onnxruntime = pytest.importorskip("onnxruntime")

TEXTS = ["a photo of the digit three", "zero", "one"]


def batch_of(model: Any, count: int, texts: bool = True) -> Any:
    draw = np.random.default_rng(count)
    images = [draw.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(count)]
    return model.prepare(images=images, texts=TEXTS[:count] if texts else None)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, clip_checkpoint: Path) -> Any:
    from rcc.models.registry import load_model

    model, directory = load_model("clip", path=clip_checkpoint, device="cpu").eval(), tmp_path_factory.mktemp("onnx")
    batch = batch_of(model, 2)
    with torch.no_grad():
        graphs = graphs_of(batch, model.outputs(batch))
    write_onnx(model, batch, graphs, directory)
    return model, graphs, directory


@pytest.mark.parametrize("count", [1, 3])
def test_each_tower_is_a_graph_that_gives_the_models_embeddings(written: Any, count: int) -> None:
    model, graphs, directory = written
    assert graphs == [
        Graph("image", ("pixel_values",), ("image_embeds",)),
        Graph("text", ("input_ids", "attention_mask"), ("text_embeds",)),
    ]
    batch = batch_of(model, count)
    found = run_onnx(graphs, directory, batch)
    with torch.no_grad():
        wanted = model.outputs(batch)
    for name, each in wanted.items():
        torch.testing.assert_close(found[name], each, atol=2e-6, rtol=0)
    files = {path.name for path in directory.iterdir()}
    assert {"image.onnx", "text.onnx", "config.json", "preprocessor_config.json"} <= files


def test_items_and_tokens_are_open(written: Any) -> None:
    _, _, directory = written
    (pixels,) = onnxruntime.InferenceSession(directory / "image.onnx").get_inputs()
    assert (isinstance(pixels.shape[0], str), pixels.shape[1:]) == (True, [3, 32, 32])
    ids, mask = onnxruntime.InferenceSession(directory / "text.onnx").get_inputs()
    assert ids.shape == mask.shape
    assert all(isinstance(each, str) for each in ids.shape)


def test_a_classifier_is_one_graph() -> None:
    batch = {"pixel_values": torch.zeros(1, 3, 8, 8)}
    assert graphs_of(batch, {"logits": torch.zeros(1, 2)}) == [Graph("model", ("pixel_values",), ("logits",))]


def test_what_cannot_be_done_is_said(written: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, graphs, directory = written
    with pytest.raises(UserError, match="the graph 'image' reads pixel_values, which the batch lacks"):
        run_onnx(graphs, directory, {})
    with pytest.raises(WorkError, match=r"the model 'clip' cannot be written as ONNX: .* It can be as to=huggingface"):
        write_onnx(model, {"pixel_values": torch.zeros(2, 3)}, graphs[:1], tmp_path)
    monkeypatch.setattr("rcc.conversion.onnx.find_spec", lambda name: None if name == "onnxruntime" else object())
    problems = Problems()
    check_installed(problems)
    assert problems.found == ["to=onnx needs onnxruntime: pip install 'rcc[onnx]'."]
