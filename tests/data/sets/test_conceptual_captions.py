"""Conceptual Captions: shards as a downloader leaves them, and the published TSV beside numbered images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys.data_sets import write_shard
from toys.files import picture, write_tar

from rcc.data.files.images import EncodedImages
from rcc.data.registry import load_data
from rcc.errors import UserError

SIZES = {"train": None, "calibration": 2, "selection": 2, "test": 3}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for shard in range(3):
        write_shard(tmp_path / f"cc12m-train-{shard:04d}.tar", 100 * shard, 8)
    return tmp_path


def test_every_sample_has_its_own_image_and_caption(shards: Path) -> None:
    splits = load_data("conceptual_captions", path=str(shards), **SIZES)
    assert splits.sizes() == {"train": 17, "calibration": 2, "selection": 2, "test": 3}
    assert splits.notes == ()
    for _, split in splits:
        for index in range(len(split)):
            number = int(split.images.name(index).rpartition(":")[2])
            assert split.captions[index] == (f"caption {number}",)
            assert isinstance(split.images, EncodedImages)
            assert split.images.encoded(index) == picture(number, "JPEG")


def test_only_the_first_shards_are_read_and_that_is_said(shards: Path) -> None:
    (shards / "cc12m-train-0002.tar").write_bytes(b"never read")
    splits = load_data("conceptual_captions", path=str(shards), shards=2, **SIZES)
    assert sum(splits.sizes().values()) == 16
    assert splits.notes == ("2 of 3 shards were read; data.shards=null reads all.",)
    one = load_data("conceptual_captions", path=str(shards / "cc12m-train-0001.tar"), **SIZES)
    assert sum(one.sizes().values()) == 8
    with pytest.raises(UserError, match="shards is 0"):
        load_data("conceptual_captions", path=str(shards), shards=0)


def test_no_image_is_held_in_memory(shards: Path) -> None:
    big = write_tar(
        shards / "big" / "0.tar", {str(n): {"bmp": picture(n, "BMP", (300, 300)), "txt": "a"} for n in range(9)}
    )
    images = load_data("conceptual_captions", path=str(big), **SIZES).train.images
    assert isinstance(images, EncodedImages)
    held = [cell.cell_contents for cell in images.stored.__closure__ or ()]
    assert sum(value.nbytes for value in held if isinstance(value, np.ndarray)) < 1000
    assert not any(isinstance(value, bytes) for value in held)


def test_a_damaged_shard_is_named(shards: Path) -> None:
    whole = (shards / "cc12m-train-0001.tar").read_bytes()
    (shards / "cc12m-train-0001.tar").write_bytes(whole[: len(whole) // 2 + 100])
    with pytest.raises(UserError, match=r"the shard '.*0001\.tar' cannot be read .*Download it again"):
        load_data("conceptual_captions", path=str(shards), **SIZES)
    (shards / "cc12m-train-0001.tar").write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(UserError, match=r"the shard '.*0001\.tar' cannot be read"):
        load_data("conceptual_captions", path=str(shards), **SIZES)


def test_samples_that_lack_a_half_are_left_out_and_counted_or_refused(tmp_path: Path) -> None:
    samples: dict[str, dict[str, bytes | str]] = {f"{n}": {"jpg": picture(n), "txt": "a"} for n in range(9)}
    samples |= {"90": {"txt": "a"}, "91": {"jpg": picture(91)}, "92": {"jpg": picture(92), "txt": "", "json": "{}"}}
    write_tar(tmp_path / "0.tar", samples)
    splits = load_data("conceptual_captions", path=str(tmp_path), **SIZES)
    assert sum(splits.sizes().values()) == 9
    assert splits.notes == (
        "1 samples have no image: '0.tar:90'; they were left out.",
        "2 samples have no caption: '0.tar:91', '0.tar:92'; they were left out.",
    )
    with pytest.raises(UserError, match=r"1 samples have no image: '0\.tar:90'\. .*data\.unpaired=skip"):
        load_data("conceptual_captions", path=str(tmp_path), unpaired="refuse", **SIZES)


def test_compressed_shards_are_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "00000.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"'00000\.tar\.gz' are compressed.*gunzip"):
        load_data("conceptual_captions", path=str(tmp_path))


@pytest.mark.parametrize("turned", [False, True], ids=["CC3M", "CC12M"])
def test_the_published_list_is_joined_with_numbered_images(tmp_path: Path, turned: bool) -> None:
    pairs = [(f'a "quoted" caption {line}', f"https://example.org/{line}.jpg?x") for line in range(12)]
    lines = ["\t".join(pair[::-1] if turned else pair) for pair in pairs]
    (tmp_path / "Train_GCC-training.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "images").mkdir()
    for line in range(11):
        (tmp_path / "images" / f"{line:08d}.jpg").write_bytes(picture(line, "JPEG"))
    splits = load_data("conceptual_captions", path=str(tmp_path), **SIZES)
    assert sum(splits.sizes().values()) == 11
    for index in range(3):
        line = int(Path(splits.test.images.name(index)).stem)
        assert splits.test.captions[index] == (f'a "quoted" caption {line}',)
    (note,) = splits.notes
    assert "1 captioned images are not in" in note
    assert "https://example.org/11.jpg" in note


def test_a_list_without_images_says_how_to_get_them(tmp_path: Path) -> None:
    (tmp_path / "cc3m.tsv").write_text("a caption\thttps://example.org/1.jpg\n")
    with pytest.raises(UserError, match=r"'cc3m\.tsv' lists addresses; .*img2dataset.*data\.images=<folder>"):
        load_data("conceptual_captions", path=str(tmp_path / "cc3m.tsv"))
    (tmp_path / "images").mkdir()
    (tmp_path / "cc3m.tsv").write_text("a caption\n")
    with pytest.raises(UserError, match="line 1 has 1 columns"):
        load_data("conceptual_captions", path=str(tmp_path))
    (tmp_path / "other.tsv").write_text("")
    with pytest.raises(UserError, match="there are 2 TSV files"):
        load_data("conceptual_captions", path=str(tmp_path))


def test_a_folder_without_shards_shows_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "readme").write_text("")
    with pytest.raises(UserError, match=r"holds no \*\.tar shard\. Found: 'readme'"):
        load_data("conceptual_captions", path=str(tmp_path))
