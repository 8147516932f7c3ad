"""Count the bytes of an artifact by what they are for, from its manifest and the sizes of its files alone."""

from __future__ import annotations

from pathlib import Path

from rcc.artifact.container import FRAME_BYTES, read_layout
from rcc.artifact.entries import Matrix, Vector
from rcc.artifact.manifest import MANIFEST, Manifest
from rcc.artifact.size import directory_bytes
from rcc.artifact.weights import PACKED_HEADER


def parts(path: Path, manifest: Manifest) -> list[tuple[str, int]]:
    """The parts of an artifact in either container, each with its bytes; they sum up to those on disk."""
    total = directory_bytes(path)
    vectors = [entry for entry in manifest.tensors.values() if isinstance(entry, Vector)]
    matrices = matrix_bytes(manifest)
    rows = [
        (f"{len(matrices)} matrices", sum(matrices.values())),
        (f"{len(vectors)} vectors", sum(sum(stream.lengths) for stream in manifest.streams.values())),
    ]
    if path.is_file():
        layout = read_layout(path)
        rows.append((f"{len(manifest.files)} files of the model, coded", len(layout.files)))
        rest = total - len(layout.files) - FRAME_BYTES - layout.data
        rows += [("manifest, coded", rest), ("container", FRAME_BYTES)]
    else:
        rows.append(
            (f"{len(manifest.files)} files of the model", sum(entry.nbytes for entry in manifest.files.values()))
        )
        rows += [(MANIFEST, (path / MANIFEST).stat().st_size), ("header of the weights", PACKED_HEADER)]
    other = total - sum(nbytes for _, nbytes in rows)
    if other:
        rows.append(("files that the manifest does not name", other))
    return rows


def matrix_bytes(manifest: Manifest) -> dict[str, int]:
    """The bytes of each matrix by the name of its tensor."""
    return {name: sum(entry.lengths) for name, entry in manifest.tensors.items() if isinstance(entry, Matrix)}
