"""Webdataset shards: members of one key are one sample, whatever their order; what lacks a half is told."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from toys.files import picture, write_tar

from rcc.data.files.images import EncodedImages
from rcc.data.files.tar_shards import read_shards, shards_of
from rcc.errors import UserError
from rcc.limits import limits


def write_members(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def test_members_of_one_key_are_one_sample_though_others_lie_between(tmp_path: Path) -> None:
    members = [
        ("a/1.jpg", picture(1, "JPEG")), ("b/1.png", picture(2)), ("a/1.txt", b" one \n"), ("b/1.txt", b"two"),
        ("b/.hidden.jpg", b"macOS"), ("a/1.cls", b"7"),
    ]  # fmt: skip
    shard = write_members(tmp_path / "0.tar", members)
    parts, notes = read_shards("it", [shard], "refuse")
    assert notes == ()
    [split] = parts.values()
    assert split.captions == (("one",), ("two",))
    assert [split.images.name(index) for index in range(2)] == [f"{shard}:a/1", f"{shard}:b/1"]
    assert isinstance(split.images, EncodedImages)
    assert [split.images.stored(index) for index in range(2)] == [picture(1, "JPEG"), picture(2)]


def test_the_caption_is_the_text_and_else_that_of_the_record(tmp_path: Path) -> None:
    record = json.dumps({"caption": " from the record "})
    samples = {
        "both": {"jpg": picture(0, "JPEG"), "json": record, "txt": "from the text"},
        "record": {"jpg": picture(1, "JPEG"), "json": record},
        "blank": {"jpg": picture(2, "JPEG"), "json": record, "txt": " "},
    }
    parts, _ = read_shards("it", [write_tar(tmp_path / "0.tar", samples)], "refuse")
    assert parts["all"].captions == (("from the text",), ("from the record",), ("from the record",))


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["cc-train-0.tar", "cc-val-0.tar", "cc-train-1.tar"], {"train": 2, "validation": 1}),
        (["cc-train-0.tar", "cc-train-1.tar"], {"all": 2}),
        (["0.tar"], {"all": 1}),
    ],
)
def test_a_shards_part_is_what_its_name_speaks_of_where_names_differ(
    tmp_path: Path, names: list[str], parts: dict[str, int]
) -> None:
    for place, name in enumerate(names):
        write_tar(tmp_path / name, {"s": {"jpg": picture(place, "JPEG"), "txt": "a"}})
    found, _ = read_shards("it", shards_of("it", tmp_path), "refuse")
    assert {part: len(split) for part, split in found.items()} == parts


def test_samples_that_lack_a_half_are_refused_together_or_left_out_and_named(tmp_path: Path) -> None:
    samples = {"silent": {"jpg": picture(0, "JPEG")}, "blind": {"txt": "a"}, "whole": {"png": picture(1), "txt": "b"}}
    shard = write_tar(tmp_path / "0.tar", samples)
    with pytest.raises(UserError) as refused:
        read_shards("it", [shard], "refuse")
    assert [problem.split(". ")[0] for problem in refused.value.problems] == [
        "data 'it': 1 samples have no image: '0.tar:blind'",
        "data 'it': 1 samples have no caption: '0.tar:silent'",
    ]
    parts, notes = read_shards("it", [shard], "skip")
    assert parts["all"].captions == (("b",),)
    assert notes == (
        "1 samples have no image: '0.tar:blind'; they were left out.",
        "1 samples have no caption: '0.tar:silent'; they were left out.",
    )


def test_a_file_that_is_no_tar_is_named(tmp_path: Path) -> None:
    shard = tmp_path / "0.tar"
    shard.write_bytes(b"no tar at all" * 100)
    with pytest.raises(UserError, match=f"the shard '{shard}' cannot be read .*Download it again"):
        read_shards("it", [shard], "refuse")


def test_a_record_that_is_no_json_is_told_with_its_shard(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "0.tar", {"s": {"jpg": picture(0, "JPEG"), "json": "{"}})
    with pytest.raises(UserError, match=r"0\.tar' cannot be read \(its member 's\.json' is no JSON"):
        read_shards("it", [shard], "refuse")


def test_a_member_that_declares_more_than_may_be_read_is_refused_before_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = write_members(tmp_path / "0.tar", [("a.txt", b"x" * 2000), ("a.jpg", picture(1, "JPEG"))])
    for limit, name in (("text_bytes", r"a\.txt"), ("image_bytes", r"a\.jpg")):
        monkeypatch.undo()
        monkeypatch.setattr(limits, limit, 600)
        with pytest.raises(UserError, match=rf"its member '{name}' has \d+ bytes\. .*limits\.{limit}"):
            read_shards("it", [shard], "refuse")


def test_a_member_with_holes_of_a_terabyte_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("a.txt")
    header.type, header.size = tarfile.GNUTYPE_SPARSE, 512
    written = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    written[386:410] = b"%011o\0%011o\0" % (0, 512)  # where the data lie
    written[483:495] = b"%011o\0" % (8**11 - 1)  # and the whole size
    written[148:156] = b" " * 8
    written[148:156] = b"%06o\0 " % sum(written)
    (tmp_path / "0.tar").write_bytes(bytes(written) + bytes(512 + 1024))
    with pytest.raises(UserError, match=r"its member 'a\.txt' is stored with holes, 8589934591 bytes in all"):
        read_shards("it", [tmp_path / "0.tar"], "refuse")


def test_a_header_that_asks_for_a_terabyte_is_refused_before_it_is_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    (tmp_path / "0.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(UserError, match=r"a header asks for 1099511627776 bytes.*limits\.text_bytes"):
        read_shards("it", [tmp_path / "0.tar"], "refuse")


def test_shards_are_found_by_file_or_folder_and_compressed_ones_refused(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar"):
        write_tar(tmp_path / name, {})
    assert shards_of("it", tmp_path) == [tmp_path / "a.tar", tmp_path / "b.tar"]
    assert shards_of("it", tmp_path / "b.tar") == [tmp_path / "b.tar"]
    (tmp_path / "c.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"'c\.tar\.gz' are compressed.*gunzip"):
        shards_of("it", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no \*\.tar shard"):
        shards_of("it", tmp_path / "empty")
