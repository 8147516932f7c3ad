"""The file of embeddings: its columns and its metadata, whatever program reads it."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from rcc.engine.parquet import EmbeddingSchema, EmbeddingWriter

SCHEMA = EmbeddingSchema("audio", 4, "abc", "run/artifact")


def test_blocks_are_one_table_with_null_where_an_item_lacks_a_field(tmp_path):
    path, draw = tmp_path / "some.parquet", np.random.default_rng(0)
    first, second = (draw.normal(size=(rows, 4)).astype(np.float32) for rows in (3, 2))
    with EmbeddingWriter(path, SCHEMA, 5) as writer:
        writer.write(["a", "b", "c"], first, [{"label": "dog"}, {}, {"split": "test", "year": 3}])
        writer.write(["d", "é"], second, [{}, {"caption": "a dog"}])
    table = pq.read_table(path)
    assert table["id"].to_pylist() == ["a", "b", "c", "d", "é"]
    assert table["label"].to_pylist() == ["dog", None, None, None, None]
    assert table["caption"].to_pylist()[-1] == "a dog"
    np.testing.assert_array_equal(np.stack(pd.read_parquet(path)["embedding"]), np.concatenate([first, second]))
    said = json.loads(pq.read_schema(path).metadata[b"rcc"])
    assert said == {
        "format": "rcc-embeddings", "version": 1, "kind": "audio", "dimensions": 4, "model": "abc",
        "source": "run/artifact", "normalized": True, "rows": 5,
    }  # fmt: skip
    assert pq.ParquetFile(path).metadata.num_row_groups == 2
