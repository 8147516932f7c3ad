"""An artifact as one file: the same model in fewer bytes, and every way the file can lie."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toys.adapters import ToyAdapter, compress, dense_toy

from rcc.artifact.container import (
    FRAME_BYTES,
    MAGIC,
    end_of_file,
    is_file,
    pack_files,
    read_layout,
    unpack_files,
    write_data,
)
from rcc.artifact.load import load
from rcc.artifact.manifest import is_artifact, read_manifest, record_metrics
from rcc.artifact.packing import Contents, pack
from rcc.artifact.restore import restore
from rcc.artifact.size import directory_bytes
from rcc.artifact.verify import verify
from rcc.artifact.write import Overhead, write_artifact
from rcc.errors import UserError
from rcc.limits import limits


@pytest.fixture
def packed(compressed: ToyAdapter, tmp_path: Path) -> Path:
    write_artifact(compressed, tmp_path / "artifact.rcc", config={"a": 1}, metrics={"kept": 0.5}, container="file")
    return tmp_path / "artifact.rcc"


def test_both_containers_give_the_same_model(compressed: ToyAdapter, packed: Path, artifact: Path) -> None:
    one, two = load(packed), load(artifact)
    expected = compressed.module.state_dict()
    for loaded in (one, two):
        assert loaded.module.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in loaded.module.state_dict().items())
    assert verify(packed) == verify(artifact)
    assert directory_bytes(packed) == packed.stat().st_size < directory_bytes(artifact)
    fresh = compress(dense_toy(), seed=5)
    restore(fresh, packed)
    assert all(torch.equal(value, expected[name]) for name, value in fresh.module.state_dict().items())


def test_the_same_model_gives_the_same_file(compressed: ToyAdapter, packed: Path, tmp_path: Path) -> None:
    write_artifact(compress(dense_toy()), tmp_path / "again", config={"a": 1}, metrics={"kept": 0.5}, container="file")
    assert packed.read_bytes() == (tmp_path / "again").read_bytes()


def test_metrics_are_replaced_and_nothing_else(packed: Path) -> None:
    before, text = read_manifest(packed), read_layout(packed)
    record_metrics(packed, {"kept": 0.25})
    assert read_manifest(packed).metrics == {"kept": 0.25}
    assert read_manifest(packed).tensors == before.tensors
    assert read_layout(packed).files == text.files
    assert verify(packed) == list(before.tensors)
    assert list(packed.parent.iterdir()) == [packed]


@pytest.mark.parametrize("container", ["file", "directory"])
def test_overhead_is_exact(compressed: ToyAdapter, container: str, tmp_path: Path) -> None:
    write_artifact(compressed, tmp_path / "a", "float16", {"a": 1}, {"kept": 0.5}, container=container)
    contents = Contents()
    tensors = dict(compressed.module.named_parameters()) | dict(compressed.module.named_buffers())
    tensors = {name: tensors[name] for name in read_manifest(tmp_path / "a").tensors}
    data = sum(map(len, pack(tensors, {}, torch.float16, "zstd", contents)))
    overhead = Overhead(compressed, tmp_path, {"a": 1}, container).nbytes(compressed, contents, {"kept": 0.5})
    assert overhead + data == directory_bytes(tmp_path / "a")


def test_an_existing_file_is_not_overwritten_and_a_container_that_is_none_is_refused(
    compressed: ToyAdapter, packed: Path
) -> None:
    with pytest.raises(UserError, match="exists already"):
        write_artifact(compressed, packed, container="file")
    with pytest.raises(UserError, match="unknown container 'zip'"):
        write_artifact(compressed, packed.parent / "b", container="zip")


def test_artifacts_are_told_by_what_they_hold(packed: Path, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    assert [is_artifact(place) for place in (packed, artifact, tmp_path / "text", tmp_path, tmp_path / "none")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    assert not is_file(tmp_path)
    with pytest.raises(UserError, match="text is not an artifact: it does not begin as the file of one does"):
        read_manifest(tmp_path / "text")


def resealed(
    path: Path, change: Callable[[bytes, bytes, tuple[int, int, int]], tuple[bytes, tuple[int, int, int]]]
) -> None:
    """Change what lies behind the data, or its declared lengths, under a checksum that is right."""
    layout, content = read_layout(path), path.read_bytes()
    end = layout.begin + layout.data
    lengths = struct.unpack("<3I", content[-32:-20])
    behind, lengths = change(content[end:-32], layout.manifest, lengths)
    whole = behind + struct.pack("<3I", *lengths)
    path.write_bytes(content[:end] + whole + hashlib.sha256(whole).digest()[:16] + b"RCC1")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b, m, n: (b, (n[0], n[1], n[2] + 1)), "its manifest has a part that"),
        (lambda b, m, n: (b, (n[0], n[1], n[2] << 10)), "cannot hold|expands to|no zstd frame"),
        (lambda b, m, n: (b, (n[0], n[1], 4_000_000_000)), "limits.text_bytes=<more>"),
        (lambda b, m, n: (b, (4_000_000_000, n[1], n[2])), "declares files of"),
        (lambda b, m, n: (b, (n[0] - 1, n[1] + 1, n[2])), "damaged"),
        (lambda b, m, n: (b"", (0, 0, 0)), "not JSON"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(packed: Path, change: Callable[..., object], reason: str) -> None:
    resealed(packed, change)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=reason):
        load(packed)


def test_every_cut_and_every_flipped_bit_behind_the_data_is_noticed(packed: Path) -> None:
    content, layout = packed.read_bytes(), read_layout(packed)
    begin = layout.begin + layout.data
    for place in range(begin, len(content), 7):
        packed.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(UserError):
            load(packed)
        packed.write_bytes(content[:place])
        with pytest.raises(UserError, match=r"cut short|declares|checksum|limits"):
            load(packed)


def test_a_flipped_bit_of_the_data_names_the_tensor(packed: Path) -> None:
    content = bytearray(packed.read_bytes())
    content[len(MAGIC) + read_layout(packed).data - 1] ^= 1
    packed.write_bytes(content)
    with pytest.raises(UserError, match=r"tensor 'words\.right' does not hold the bytes"):
        load(packed)


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/passwd", "a/../../b", "a//b", "", ".", "..", "a/", "c:\\x", "a\0b", "a\nb", "x" * 300, "\ud800"],
)
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="no path inside a folder"):
        unpack_files(Path("artifact.rcc"), pack_files({"a": b"x"}), {name: 1})


def test_a_file_that_is_a_folder_too_is_refused() -> None:
    with pytest.raises(UserError, match="as a file and as a folder"):
        unpack_files(Path("artifact.rcc"), b"xy", {"a": 1, "a/b": 1})


def test_files_that_declare_more_than_their_bytes_or_a_limit_allow_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    part = pack_files({"a": bytes(5000)})
    assert unpack_files(Path("x"), part, {"a": 4000, "b": 1000}) == {"a": bytes(4000), "b": bytes(1000)}
    with pytest.raises(UserError, match="the part of its files has a part of"):
        unpack_files(Path("x"), part, {"a": 100_000_000})
    monkeypatch.setattr(limits, "text_bytes", 4999)
    with pytest.raises(UserError, match=r"limits\.text_bytes"):
        unpack_files(Path("x"), part, {"a": 5000})


def test_the_documented_layout_is_the_written_one(tmp_path: Path) -> None:
    write_data(tmp_path / "x", [b"data", b"more"])
    with open(tmp_path / "x", "ab") as file:
        file.write(end_of_file(b"files", b"{}"))
    content = (tmp_path / "x").read_bytes()
    assert content[:8] == b"\x89RCC\r\n\x1a\n"
    whole = b"files{}" + struct.pack("<3I", 5, 2, 2)
    assert content[8:] == b"datamore" + whole + hashlib.sha256(whole).digest()[:16] + b"RCC1"
    assert len(content) - 8 - 7 == FRAME_BYTES
    layout = read_layout(tmp_path / "x")
    assert (layout.begin, layout.data, layout.files, layout.manifest) == (8, 8, b"files", b"{}")


def test_a_later_container_says_to_update(packed: Path) -> None:
    packed.write_bytes(packed.read_bytes()[:-1] + b"2")
    with pytest.raises(UserError, match=r"is a container b'2', and this rcc reads b'1'\. Update rcc"):
        load(packed)
