"""Tables: where they lie, by what names their parts go, what is said when they cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from toys.files import picture, write_table

from rcc.data.files.columns import captioned, stored_images
from rcc.data.files.tables import has_tables, read_tables
from rcc.errors import UserError


def rows(count: int, start: int = 0) -> dict[str, list[Any]]:
    return {
        "image": [picture(start + number) for number in range(count)],
        "caption": [f"caption {start + number}" for number in range(count)],
    }


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (["train.parquet", "val.parquet", "test.parquet"], {"train": 1, "validation": 2, "test": 3}),
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"], {"train": 3}),
        (["train/0000.parquet", "test/0000.parquet"], {"train": 1, "test": 2}),
        (["photos.parquet"], {"train": 1}),
        (["flickr_validation.parquet", "readme/other.parquet"], {"validation": 1}),
    ],
)
def test_files_are_parts_by_their_names(tmp_path: Path, files: list[str], parts: dict[str, int]) -> None:
    for number, file in enumerate(files):
        write_table(tmp_path / file, rows(number + 1, 10 * number))
    assert has_tables(str(tmp_path))
    found = read_tables("it", str(tmp_path))
    assert {part: len(table) for part, table in found.items()} == parts
    assert len(read_tables("it", str(tmp_path / files[0]))) == 1


def test_what_the_library_saved_is_read_with_its_own_order_of_rows(tmp_path: Path) -> None:
    whole = datasets.load_dataset(
        "parquet", data_files=str(write_table(tmp_path / "a.parquet", rows(6))), cache_dir=str(tmp_path / "cache")
    )["train"]
    whole.select([4, 1, 3]).save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict(train=whole, test=whole.select([5])).save_to_disk(str(tmp_path / "many"))
    table = read_tables("it", str(tmp_path / "one"))["train"]
    split, silent = captioned("it", "train", table)
    assert silent == []
    assert split.captions == (("caption 4",), ("caption 1",), ("caption 3",))
    assert [split.images.encoded(index) for index in range(3)] == [picture(number) for number in (4, 1, 3)]
    shuffled = table.select([2, 0])
    assert stored_images("it", "train", shuffled).encoded(0) == picture(3)
    assert {part: len(found) for part, found in read_tables("it", str(tmp_path / "many")).items()} == {
        "train": 6,
        "test": 1,
    }


def test_images_may_be_kept_as_paths(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(picture(1))
    table = datasets.Dataset.from_dict({"image": [str(tmp_path / "1.png")], "caption": ["one"]})
    table = table.cast_column("image", datasets.Image())
    split, _ = captioned("it", "train", table, tmp_path)
    assert split.images.encoded(0) == picture(1)
    assert split.images.name(0) == f"{tmp_path / '1.png'} (row 0 of train)"
    with pytest.raises(UserError, match=r"row 0 of train: .*names '/.*\(str\), which is in no folder of the data"):
        captioned("it", "train", table)


@pytest.mark.parametrize("name", ["../secret.png", "/dev/zero", "link.png", "a" * 300, "nul\0.png"])
def test_a_row_names_no_file_out_of_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(picture(1))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/link.png").symlink_to("../secret.png")
    table = datasets.Dataset.from_dict({"image": [name], "caption": ["one"]}).cast_column("image", datasets.Image())
    with pytest.raises(UserError, match=r"data 'it', row 0 of train: a row names the file '.*' ?.*which (is not|h)"):
        captioned("it", "train", table, tmp_path / "data")


def test_a_saved_set_names_no_table_out_of_its_folder(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"caption": ["one"]}).save_to_disk(str(tmp_path / "other"))
    datasets.DatasetDict(train=datasets.Dataset.from_dict(rows(2))).save_to_disk(str(tmp_path / "it"))
    state = tmp_path / "it/train/state.json"
    text = state.read_text()
    state.write_text(text.replace("data-00000-of-00001.arrow", "../../other/data-00000-of-00001.arrow"))
    with pytest.raises(UserError, match=r"names the file '\.\./\.\./other/.*which is not in"):
        read_tables("it", str(tmp_path / "it"))
    state.write_text(text)
    (tmp_path / "it/dataset_dict.json").write_text('{"splits": ["../other"]}')
    with pytest.raises(UserError, match=r"names the file '\.\./other', which is not in"):
        read_tables("it", str(tmp_path / "it"))


@pytest.mark.parametrize("kind", ["binary", "large_binary", "record"])
def test_images_may_be_bytes_without_the_librarys_metadata(tmp_path: Path, kind: str) -> None:
    record = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    stored = [{"bytes": picture(n), "path": f"{n}.png"} if kind == "record" else picture(n) for n in range(3)]
    column = pa.array(stored, {"binary": pa.binary(), "large_binary": pa.large_binary(), "record": record}[kind])
    pq.write_table(pa.table({"jpg": column, "caption": ["a", "b", "c"]}), tmp_path / "train.parquet")
    images = captioned("it", "train", read_tables("it", str(tmp_path))["train"])[0].images
    assert [images.encoded(index) for index in range(3)] == [picture(number) for number in range(3)]
    assert images.name(1) == f"{'1.png' if kind == 'record' else 'image'} (row 1 of train)"


def test_a_damaged_file_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"cannot be read \(.*Check that the files are whole"):
        read_tables("it", str(tmp_path))
    assert capfd.readouterr() == ("", "")


def test_a_name_on_the_hub_that_cannot_be_had_is_said_at_once() -> None:
    assert has_tables("nobody/nothing")
    with pytest.raises(
        UserError, match=r"data\.path=nobody/nothing is no folder here, .* cannot be had: HF_HUB_OFFLINE is set"
    ):
        read_tables("it", "nobody/nothing")


def test_an_unreachable_hub_is_not_asked_by_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"Connection refused.*if it was downloaded before, HF_HUB_OFFLINE=1 takes it"):
        read_tables("it", "nobody/nothing")


@pytest.mark.parametrize("path", ["nobody", "a/b/c", "./a/b", "/a/b", "a/", None, 3])
def test_other_paths_are_no_names_on_the_hub(path: Any) -> None:
    assert not has_tables(path)


def test_a_path_in_a_folder_that_is_here_is_no_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sets").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data\.path=sets/flicker does not exist\. .* holds nothing"):
        read_tables("it", "sets/flicker")
