"""Write a model as ONNX, one graph a tower, and run the graphs by onnxruntime (extra `onnx`).

Graphs take and give what the model's batches and outputs hold, by their names; the number of items is open, and of
texts the number of tokens.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rcc.errors import Problems, UserError, WorkError
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter

NEEDED = ("onnx", "onnxscript", "onnxruntime")
TOWERS = {
    "image": ({"pixel_values"}, {"image_embeds"}),
    "text": ({"input_ids", "attention_mask"}, {"text_embeds"}),
    "audio": ({"input_features", "input_values"}, {"audio_embeds"}),
}
"""What a tower reads and what it gives, by the name of its graph."""
WHOLE = "model"
"""The name of the graph of a model that is not of towers."""
TOKENS = ("input_ids", "attention_mask", "token_type_ids")
"""Inputs whose second dimension is open."""


@dataclass(frozen=True)
class Graph:
    """A graph in `<name>.onnx`: its inputs and its outputs."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def check_installed(problems: Problems) -> None:
    """Note a problem where what writes and runs ONNX is not installed."""
    lacking = [name for name in NEEDED if find_spec(name) is None]
    problems.check(not lacking, f"to=onnx needs {', '.join(lacking)}: pip install 'rcc[onnx]'.")


def graphs_of(batch: Batch, outputs: Mapping[str, Tensor]) -> list[Graph]:
    """A graph for each tower that the outputs are of; else one for the whole model."""
    towers = []
    for name, (reads, gives) in TOWERS.items():
        inputs, given = (
            tuple(each for each in names if each in wanted) for names, wanted in ((batch, reads), (outputs, gives))
        )
        if inputs and given:
            towers.append(Graph(name, inputs, given))
    if {each for graph in towers for each in graph.outputs} == set(outputs):
        return towers
    return [Graph(WHOLE, tuple(batch), tuple(outputs))]


def write_onnx(model: Adapter, batch: Batch, graphs: Sequence[Graph], directory: Path) -> None:
    """Write the graphs of a model of plain layers, weights inside, beside its config and its processor's files.

    Args:
        batch: two items or more; of which the dimensions that are not open keep their size.

    Raises:
        WorkError: torch cannot express the model as ONNX.
    """
    for graph in graphs:
        call, open_ = _Call(model, graph), {each: _open(each) for each in graph.inputs}
        try:
            with _quiet(), torch.no_grad():
                program: Any = torch.onnx.export(
                    call,
                    tuple(batch[name] for name in graph.inputs),
                    dynamo=True,
                    input_names=list(graph.inputs),
                    output_names=list(graph.outputs),
                    dynamic_shapes=(tuple(open_.values()),),
                    verbose=False,
                )
                program.save(directory / f"{graph.name}.onnx")
        except Exception as error:  # of its tracer, of any kind
            first = str(error).strip().partition("\n")[0]
            raise WorkError(
                f"the model '{model.name}' cannot be written as ONNX: {type(error).__name__}: {first:.300}. It can be"
                " as to=huggingface."
            ) from error
    model.save_files(directory)


def run_onnx(graphs: Sequence[Graph], directory: Path, batch: Batch) -> dict[str, Tensor]:
    """What onnxruntime computes from the written graphs on the CPU, by the names of the outputs.

    Raises:
        UserError: an input that the graphs read is not in the batch.
    """
    import onnxruntime

    found: dict[str, Tensor] = {}
    for graph in graphs:
        lacking = [name for name in graph.inputs if name not in batch]
        if lacking:
            raise UserError(f"the graph '{graph.name}' reads {', '.join(lacking)}, which the batch lacks.")
        session = onnxruntime.InferenceSession(directory / f"{graph.name}.onnx", providers=["CPUExecutionProvider"])
        feed = {name: np.ascontiguousarray(batch[name].cpu().numpy()) for name in graph.inputs}
        given = session.run(list(graph.outputs), feed)
        found |= {name: torch.from_numpy(np.asarray(each)) for name, each in zip(graph.outputs, given, strict=True)}
    return found


class _Call(nn.Module):
    """An adapter as a module of the tensors that a graph reads."""

    def __init__(self, model: Adapter, graph: Graph) -> None:
        super().__init__()
        self.module, self._model, self._graph = model.module, model, graph

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = self._model.outputs(dict(zip(self._graph.inputs, inputs, strict=True)))
        return tuple(given[name] for name in self._graph.outputs)


def _open(name: str) -> dict[int, Any]:
    dimensions = {0: torch.export.Dim("items")}
    return dimensions | ({1: torch.export.Dim("tokens")} if name in TOKENS else {})


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of itself."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
