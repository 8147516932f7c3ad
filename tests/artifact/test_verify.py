"""Every way to damage an artifact ends in an error that names the file or the tensor."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import zstandard
from safetensors.torch import load_file, save_file
from toys.adapters import ToyAdapter, dense_toy
from toys.artifacts import refused, rewrite_manifest

from rcc.artifact.entries import Matrix
from rcc.artifact.load import load
from rcc.artifact.manifest import read_manifest
from rcc.artifact.verify import verify
from rcc.artifact.write import write_artifact
from rcc.errors import UserError
from rcc.layers.form import Form


def test_a_sound_artifact_names_the_tensors_checked(artifact: Path, compressed: ToyAdapter) -> None:
    checked = verify(artifact)
    assert checked == sorted(name for name in compressed.module.state_dict() if not name.startswith("two."))


def test_files_that_the_manifest_does_not_name_are_ignored(artifact: Path) -> None:
    (artifact / "README.md").write_text("my model")
    verify(artifact)


def test_any_flipped_byte_of_the_data_is_found(artifact: Path) -> None:
    weights = artifact / "weights.safetensors"
    sound = weights.read_bytes()
    begin, manifest = 8 + int.from_bytes(sound[:8], "little"), read_manifest(artifact)
    stored = {dtype: stream.lengths for dtype, stream in sorted(manifest.streams.items())}
    stored |= {name: entry.lengths for name, entry in manifest.tensors.items() if isinstance(entry, Matrix)}
    assert begin + sum(map(sum, stored.values())) == len(sound)
    for name, lengths in stored.items():
        damaged = bytearray(sound)
        damaged[begin + sum(lengths) // 2] ^= 0x10
        weights.write_bytes(damaged)
        with pytest.raises(UserError) as caught:
            verify(artifact)
        said = f"tensor '{name}' does not hold" if name in manifest.tensors else f"the part of the {name} vectors"
        assert said in str(caught.value)
        assert len(caught.value.problems) == 1
        begin += sum(lengths)


def test_damaged_vectors_are_named_as_far_as_can_be(artifact: Path) -> None:
    content = bytearray((artifact / "weights.safetensors").read_bytes())
    content[8 + 88] ^= 1
    (artifact / "weights.safetensors").write_bytes(content)
    refused(
        artifact,
        r"weights\.safetensors: tensor 'batch_norm\.bias', 'image\.bias', .*: the part of the "
        "float32 vectors does not hold the bytes that were written",
    )


@pytest.mark.parametrize("length", [0, 4, 100, -1, -500])
def test_truncated_weights_are_refused(length: int, artifact: Path) -> None:
    content = (artifact / "weights.safetensors").read_bytes()
    (artifact / "weights.safetensors").write_bytes(content[:length])
    refused(artifact, r"weights\.safetensors is truncated, damaged or no safetensors file")


def test_trailing_bytes_are_refused(artifact: Path) -> None:
    with open(artifact / "weights.safetensors", "ab") as file:
        file.write(b"more")
    refused(artifact, r"weights\.safetensors is truncated, damaged or no safetensors file")


@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors", "config.json", "processor/size.txt"])
def test_a_missing_file_is_named(name: str, artifact: Path) -> None:
    (artifact / name).unlink()
    refused(artifact, re.escape(name))


def test_a_foreign_safetensors_is_refused_briefly(artifact: Path) -> None:
    save_file({f"layer.{index}": torch.ones(1) for index in range(500)}, artifact / "weights.safetensors")
    refused(artifact, r"weights\.safetensors holds layer\.0, layer\.1, .* not 'data' alone")
    with pytest.raises(UserError) as caught:
        verify(artifact)
    assert len(str(caught.value)) < 400
    save_file({}, artifact / "weights.safetensors")
    refused(artifact, "holds nothing, not 'data' alone")


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: torch.cat([data, data[:1]]), torch.Tensor.float]
)
def test_another_length_or_type_of_the_data_is_refused(change: Callable, artifact: Path) -> None:
    data = load_file(artifact / "weights.safetensors")["data"].clone()
    save_file({"data": change(data)}, artifact / "weights.safetensors")
    refused(artifact, rf"holds (U8|F32) \[\d+\] where the manifest's tensors take U8 \[{len(data)}\]")


def replace_stored(artifact: Path, name: str, change: Callable[[bytes, list[int]], tuple[bytes, str]]) -> None:
    """Put other bytes in the place of a matrix's, with the line of the manifest that vouches for them."""
    manifest = read_manifest(artifact)
    entry = manifest.tensors[name]
    assert isinstance(entry, Matrix)
    before = sum(sum(stream.lengths) for stream in manifest.streams.values()) + sum(
        sum(other.lengths) for key, other in manifest.tensors.items() if isinstance(other, Matrix) and key < name
    )
    content = load_file(artifact / "weights.safetensors")["data"].numpy().tobytes()
    end = before + sum(entry.lengths)
    stored, line = change(content[before:end], list(entry.lengths))
    data = torch.frombuffer(bytearray(content[:before] + stored + content[end:]), dtype=torch.uint8)
    save_file({"data": data}, artifact / "weights.safetensors")
    module, _, attribute = name.rpartition(".")
    line = f"{line} {hashlib.sha256(stored).hexdigest()[:12]}"
    rewrite_manifest(artifact, lambda manifest: manifest["modules"][module].update({attribute: line}))


def test_an_index_that_disagrees_with_its_values_is_refused(artifact: Path) -> None:
    def escape(stored: bytes, lengths: list[int]) -> tuple[bytes, str]:
        return b"\xff" + stored[1:], f"16x6 gaps {lengths[0]} {'+'.join(map(str, lengths))}"

    replace_stored(artifact, "up.sparse", escape)
    refused(artifact, r"tensor 'up\.sparse' has an index that marks \d+ values where \d+ are declared")
    with pytest.raises(UserError, match=r"tensor 'up\.sparse' has an index that marks"):
        load(artifact, verify=False)


def test_a_bomb_is_refused_by_name_and_never_expanded(artifact: Path) -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 24))[4:]
    replace_stored(artifact, "up.left", lambda stored, lengths: (frame[:100], "16x2 dense 100"))
    refused(artifact, r"tensor 'up\.left' has a part that (is no zstd frame of|expands to)")
    replace_stored(artifact, "up.left", lambda stored, lengths: (b"\0", "16x2 dense 1"))
    refused(artifact, r"tensor 'up\.left' has a part that is no zstd frame of 128 bytes")


def test_a_truncated_frame_that_the_manifest_vouches_for_is_refused_by_name(tmp_path: Path) -> None:
    toy = dense_toy()
    toy.module.one.weight.data = torch.ones(16, 16)
    write_artifact(toy, tmp_path / "artifact")
    replace_stored(
        tmp_path / "artifact", "one.weight", lambda stored, lengths: (stored[:-1], f"16x16 dense {len(stored) - 1}")
    )
    refused(tmp_path / "artifact", r"tensor 'one\.weight' (cannot take|has a part)")


def test_a_rank_without_bound_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    toy = dense_toy()
    unit = next(unit for unit in toy.units() if unit.name == "up")
    unit.write(Form(left=torch.zeros(16, 23), right=torch.zeros(23, 6), bias=unit.read().bias))
    write_artifact(toy, tmp_path / "artifact")
    with pytest.raises(UserError, match=r"unit 'up' .* its rank is 23 for a weight of \(16, 6\)"):
        load(tmp_path / "artifact")


def test_an_artifact_can_be_moved(artifact: Path, tmp_path: Path) -> None:
    shutil.move(artifact, tmp_path / "elsewhere")
    verify(tmp_path / "elsewhere")
