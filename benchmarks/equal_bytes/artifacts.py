"""Write a compressed model as the product does, measure the directory, and load it again from its files."""

from __future__ import annotations

import shutil
from pathlib import Path

from subjects.subject import Subject

from rcc.artifact.contents import named_tensors, steps_of
from rcc.artifact.load import load
from rcc.artifact.packing import Contents, pack
from rcc.artifact.size import dense_bytes, directory_bytes
from rcc.artifact.write import Overhead, write_artifact
from rcc.cascade.bytes.budget import Target
from rcc.layers.encoding import STORED_DTYPES
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


def reloaded(model: Adapter, subject: Subject, folder: Path) -> tuple[int, Adapter]:
    """Bytes of the artifact of `model`, written to `folder`, and the model that its files give."""
    shutil.rmtree(folder, ignore_errors=True)
    write_artifact(model, folder, DTYPE)
    # `load` puts weights into the module it is given; the adapter of the subject knows how to call that.
    module = load(folder, skeleton=subject.skeleton()).module
    return directory_bytes(folder), subject.adapter(module).eval()


def artifact_bytes(model: Adapter, target: Target) -> int:
    """The exact bytes of the artifact's directory; nothing is written."""
    contents = Contents()
    tensors, _ = named_tensors(model.module)
    packed = sum(map(len, pack(tensors, steps_of(model.module), STORED_DTYPES[DTYPE], ENTROPY, contents)))
    return packed + target.overhead(model, contents, NOTHING)
