"""Write a compressed model as the product does, measure the directory, and load it again from its files."""

from __future__ import annotations

from pathlib import Path

import torch
from subjects.subject import Subject
from torch import Tensor

from rcc.artifact.contents import named_tensors, steps_of
from rcc.artifact.packing import Contents, pack
from rcc.artifact.size import dense_bytes
from rcc.artifact.write import Overhead, write_artifact
from rcc.cascade.bytes.budget import Target
from rcc.layers.encoding import STORED_DTYPES
from rcc.layers.grid import to_grid
from rcc.measurement import Measurement
from rcc.models.adapter import Adapter

DTYPE, ENTROPY = "float16", "zstd"
NOTHING = Measurement((), "")
"""What the manifests of these artifacts note of the dense model's quality."""


def target_of(model: Adapter, ratio: float, scratch: Path) -> Target:
    """The bytes of an artifact `ratio` times smaller than the dense model's directory in float32."""
    files = Overhead(model, scratch)
    wanted = round(files.dense_bytes(model, "float32") / ratio)
    return Target(wanted, lambda now, contents, baseline: files.nbytes(now, contents))


def dense_size(subject: Subject, scratch: Path) -> int:
    return dense_bytes(subject.dense(), "float32", scratch)


def written(model: Adapter, folder: Path) -> Path:
    """The folder of the model's artifact, as the product stores it."""
    write_artifact(model, folder, DTYPE)
    return folder


def coding(model: Adapter) -> float:
    """Coded bytes of all matrices of whole numbers over the entropy of their values, each matrix by itself; 0 where
    there are none."""
    contents = Contents()
    tensors, _ = named_tensors(model.module)
    steps = steps_of(model.module)
    rounded = {name: tensors[name] for name in (*steps, *steps.values())}
    for _ in pack(rounded, steps, STORED_DTYPES[DTYPE], ENTROPY, contents):
        pass
    coded = sum(sum(contents.tensors[name].lengths) for name in steps)
    counts = [
        torch.unique(to_grid(tensors[name], tensors[step]), return_counts=True)[1] for name, step in steps.items()
    ]
    entropy = sum(float(-(each * (each / each.sum()).log2()).sum()) / 8 for each in map(Tensor.double, counts))
    return coded / entropy if entropy else 0.0


def artifact_bytes(model: Adapter, target: Target) -> int:
    """The exact bytes of the artifact's directory; nothing is written."""
    contents = Contents()
    tensors, _ = named_tensors(model.module)
    packed = sum(map(len, pack(tensors, steps_of(model.module), STORED_DTYPES[DTYPE], ENTROPY, contents)))
    return packed + target.overhead(model, contents, NOTHING)
