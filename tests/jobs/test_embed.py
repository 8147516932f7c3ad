"""job=embed: one Parquet file with the vectors that the model gives, complete or not there."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import rcc
from rcc import CLIPEngine, EmbeddingStore, VisionEncoder

EMBED = ("job=embed", "threads=1", "split=selection", "out=digits.parquet")


def vectors_of(table):
    return np.stack([np.asarray(row, np.float32) for row in table["embedding"].to_pylist()])


def test_the_file_has_a_row_an_item_with_its_vector_and_its_fields(rcc_run, digits):
    code, out, err = rcc_run(*EMBED)
    assert code == 0, err
    assert "digits.parquet: 284 images in 128 dimensions (clip)" in out
    table = pq.read_table("digits.parquet")
    assert table.column_names == ["id", "embedding", "split", "label", "caption", "title", "text", "digest"]
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[128]"
    said = json.loads(table.schema.metadata[b"rcc"])
    assert (said["format"], said["version"], said["kind"], said["dimensions"], said["rows"], said["normalized"]) == (
        "rcc-embeddings", 1, "clip", 128, 284, True,
    )  # fmt: skip
    model = rcc.load_model("clip_tiny")
    wanted = model.encode_image([digits.selection.images[place] for place in range(20)]).numpy()
    np.testing.assert_allclose(vectors_of(table)[:20], wanted, atol=1e-6)
    assert table["label"].to_pylist()[:9] == [digits.class_names[label] for label in digits.selection.labels[:9]]
    assert table["caption"].null_count == 284
    assert pq.ParquetFile("digits.parquet").metadata.row_group(0).column(1).compression == "ZSTD"


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(rcc_run, tmp_path):
    (tmp_path / "digits.parquet").write_text("mine")
    code, _, err = rcc_run(*EMBED)
    assert code == 2
    assert "out=digits.parquet exists already. Choose another, or replace it by overwrite=true." in err
    assert (tmp_path / "digits.parquet").read_text() == "mine"
    code, _, err = rcc_run(*EMBED, "overwrite=true", "compression_level=19")
    assert code == 0, err
    assert pq.read_table("digits.parquet").num_rows == 284


@pytest.fixture
def pictures(tmp_path):
    draw = np.random.default_rng(0)
    for place in range(6):
        folder = tmp_path / "pictures" / "ab"[place % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{place}.png")
    return "data=image_folder", f"data.path={tmp_path}/pictures", "data.calibration=1", "data.selection=1"


def test_a_vision_model_and_a_store_of_what_was_written(rcc_run, pictures, checkpoint_of, tmp_path):
    path = checkpoint_of("vit")
    rest = ("job=embed", "threads=1", *pictures, f"artifact={path}", "out=some/where.parquet")
    code, out, err = rcc_run(*rest)
    assert code == 0, err
    assert "6 images in 32 dimensions (vision)" in out
    table = pq.read_table("some/where.parquet")
    ids, vectors = table["id"].to_pylist(), vectors_of(table)
    paths = [tmp_path / "pictures" / each for each in ids]
    np.testing.assert_allclose(vectors, VisionEncoder(path).encode(paths), atol=1e-6)
    said = json.loads(table.schema.metadata[b"rcc"])
    store = EmbeddingStore("store", kind=said["kind"], model=said["model"])
    store.add(ids, vectors, table.select(["label", "split"]).to_pylist())
    ((nearest,),) = store.search(vectors[3], top_k=1)
    assert nearest.id == ids[3]
    code, out, err = rcc_run("job=index", "threads=1", *pictures, f"artifact={path}", "store.path=indexed")
    assert code == 0, err
    assert sorted(EmbeddingStore("indexed").ids()) == sorted(ids)
    assert EmbeddingStore("indexed").manifest.model == said["model"]
    code, out, err = rcc_run("job=search", "threads=1", "store.path=indexed", f"query={paths[2]}", "top_k=1")
    assert code == 0, err
    assert f"{ids[2]}" in out
    assert "1.0000" in out


def test_an_item_that_cannot_be_read_leaves_no_file(rcc_run, pictures, tmp_path):
    (tmp_path / "pictures/a/0.png").write_bytes(b"\x89PNG\r\n\x1a\n no image")
    code, _, err = rcc_run("job=embed", "threads=1", *pictures, "out=half.parquet")
    assert code == 2
    assert "0.png" in err
    assert not list(tmp_path.glob("*half.parquet*"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["out=null"], "job=embed needs a file to write: out=embeddings.parquet"),
        (["out=vectors.npy"], "what is written is Parquet"),
        (["out=a.parquet", "split=all_of_it"], "split"),
        (["out=a.parquet", "compression_level=40"], "compression_level"),
        (["out=a.parquet", "artifact=[dense,dense2]"], "dense2"),
        (["out=a.parquet", "overwrite=1"], "overwrite"),
    ],
)
def test_what_cannot_be_done_is_refused_before_data_are_loaded(rcc_run, given, said):
    code, _, err = rcc_run("job=embed", "threads=1", *given)
    assert code == 2
    assert said in err


def test_a_clip_embeds_as_its_engine_does(rcc_run, pictures, tmp_path, clip_checkpoint):
    code, _, err = rcc_run("job=embed", "threads=1", *pictures, f"artifact={clip_checkpoint}", "out=clip.parquet")
    assert code == 0, err
    table = pq.read_table("clip.parquet")
    paths = [tmp_path / "pictures" / each for each in table["id"].to_pylist()]
    np.testing.assert_allclose(vectors_of(table), CLIPEngine(clip_checkpoint).encode_image(paths), atol=1e-6)
