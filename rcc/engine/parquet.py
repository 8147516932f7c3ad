"""Write embeddings as one Parquet file that any program reads: a column of vectors, and what is known of each item.

    id                 string
    embedding          fixed_size_list<float>[D], of length 1
    split, label, caption, title, text, digest    string, null where an item has none

What the vectors are of stands in the schema's metadata under `rcc`, as JSON: format, version, kind ('clip', 'vision',
'text', 'audio'), dimensions, the checksum of the model's weights, the model as it was named, the number of rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rcc.engine.encoding import Embeddings

FORMAT, VERSION = "rcc-embeddings", 1
METADATA = b"rcc"
FIELDS = ("split", "label", "caption", "title", "text", "digest")
COMPRESSION, LEVEL = "zstd", 3


@dataclass(frozen=True)
class EmbeddingSchema:
    """What the vectors of a file are of.

    Attributes:
        kind: see `rcc.store.schema.KINDS`.
        dimensions: D.
        model: the checksum of the weights.
        source: the model as it was named.
    """

    kind: str
    dimensions: int
    model: str
    source: str

    def arrow(self, rows: int) -> pa.Schema:
        """The columns of a file of so many rows, and its metadata."""
        said = {"format": FORMAT, "version": VERSION, **asdict(self), "normalized": True, "rows": rows}
        columns = [pa.field("id", pa.string(), nullable=False)]
        columns.append(pa.field("embedding", pa.list_(pa.float32(), self.dimensions), nullable=False))
        columns += [pa.field(name, pa.string()) for name in FIELDS]
        return pa.schema(columns, metadata={METADATA: json.dumps(said).encode()})


class EmbeddingWriter:
    """Writes a file block by block, so that memory holds one block.

    Args:
        rows: how many there will be.
        compression, level: of its columns, as pyarrow names them.
    """

    def __init__(
        self, path: Path, schema: EmbeddingSchema, rows: int, compression: str = COMPRESSION, level: int | None = LEVEL
    ) -> None:
        self._schema = schema.arrow(rows)
        self._writer = pq.ParquetWriter(path, self._schema, compression=compression, compression_level=level)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()

    def write(self, ids: Sequence[str], vectors: Embeddings, fields: Sequence[Mapping[str, Any]]) -> None:
        """Append N rows: vectors (N, D), and of the fields those that the file has."""
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
        columns = [pa.array(ids, pa.string()), pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])]
        columns += [pa.array([row.get(name) for row in fields], pa.string()) for name in FIELDS]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
