"""Every way to damage an artifact ends in an error that names the file or the tensor."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard
from safetensors.torch import load_file, save_file
from toys.adapters import ToyAdapter, dense_toy

from rcc.artifact.entries import Matrix
from rcc.artifact.load import load
from rcc.artifact.manifest import read_manifest, record_metrics
from rcc.artifact.verify import verify
from rcc.artifact.write import write_artifact
from rcc.errors import UserError
from rcc.layers.form import Form


def rewrite_manifest(artifact: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((artifact / "manifest.json").read_text())
    change(manifest)
    (artifact / "manifest.json").write_text(json.dumps(manifest))


def refused(artifact: Path, *reasons: str) -> None:
    for check in (verify, load):
        with pytest.raises(UserError) as caught:
            check(artifact)
        for reason in reasons:
            assert re.search(reason, str(caught.value)), str(caught.value)


def test_a_sound_artifact_names_the_tensors_checked(artifact: Path, compressed: ToyAdapter) -> None:
    checked = verify(artifact)
    assert checked == sorted(name for name in compressed.module.state_dict() if not name.startswith("two."))


def test_files_of_others_are_let_be(artifact: Path) -> None:
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
        r"weights\.safetensors: tensor 'batch_norm\.bias', 'image\.bias', .* or one of \d more: the part of the "
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


def line(name: str, text: object) -> Callable[[dict[str, Any]], Any]:
    module, _, attribute = name.rpartition(".")
    return lambda manifest: manifest["modules"][module].update({attribute: text})


def reshaped(name: str, now: str, then: str) -> Callable[[dict[str, Any]], Any]:
    module, _, attribute = name.rpartition(".")
    return lambda manifest: line(name, manifest["modules"][module][attribute].replace(now, then))(manifest)


TAMPERED: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("another format", lambda m: m.update(format="gguf"), "is not the manifest of an artifact"),
    ("a newer version", lambda m: m.update(version=3), r"version 3 .*reads version 2.*update rcc"),
    ("an older version", lambda m: m.update(version=1), r"version 1 .*reads version 2.*compress the model again"),
    ("version true", lambda m: m.update(version=True), "version True"),
    ("no modules", lambda m: m.pop("modules"), "'modules' is missing"),
    ("modules a list", lambda m: m.update(modules=[]), "'modules' is missing or not a dict"),
    ("a key of its own", lambda m: m.update(path="/etc/passwd"), "keys that are not known: path"),
    ("a module as text", lambda m: m["modules"].update(norm="x"), "modules: 'norm' is not a mapping"),
    ("an attribute with a dot", lambda m: m["modules"][""].update({"a.b": "3"}), "attributes with a dot: a\\.b"),
    ("a tensor of another kind", line("mask", ["2"]), r"tensor 'mask' is \['2'\], which is no line"),
    ("an unknown encoding", line("up.left", "16x2 zip 128 0123456789ab"), "unknown encoding of tensor 'up.left' 'zip'"),
    ("an unknown dtype", line("mask", "2 object"), "unknown dtype of tensor 'mask' 'object'"),
    ("an unknown default", lambda m: m.update(dtype="object"), "unknown dtype 'object'"),
    ("another dtype", line("mask", "2 float16"), "there are vectors of float16, float32, int64, and values of .*"),
    ("a negative shape", line("mask", "-2"), "tensor 'mask' is '-2', which is no line"),
    ("another vector shape", line("mask", "999"), "has a part that|float32 vectors|tensor 'mask' is"),
    ("a vector elsewhere", lambda m: m["modules"][""].update(extra="0"), "tensor 'extra' of the artifact has no place"),
    ("no digest", line("up.left", "16x2 dense 128"), "tensor 'up.left' is .* which is no line"),
    ("another matrix shape", reshaped("up.left", "16x2", "2x16"), r"left \(2, 16\) and right \(2, 6\) disagree"),
    ("another matrix length", line("up.left", "16x2 dense 127 0123456789ab"), "where the manifest's tensors take"),
    ("a tie to nothing", lambda m: m["tied"].update(a="b"), "'a' is tied to 'b', which is not a stored tensor"),
    ("a tie to a list", lambda m: m["tied"].update(a=["b"]), r"'a' is tied to \['b'\], which is not"),
    ("steps of nothing", line("up.left", "16x2 int8*step dense 32 0123456789ab"),
     r"tensor 'up\.left' of shape \[16, 2\] needs its steps in 'up\.left_step'"),
    ("a stream of text", lambda m: m["vectors"].update(float32="all"), "vectors of float32 are 'all'"),
    ("no stream", lambda m: m["vectors"].pop("int64"), "vectors of float32, int64, and values of those of float32"),
    ("a file elsewhere", lambda m: m["files"].update({"../../etc/passwd": "1 " + "0" * 32}),
     r"the file '\.\./\.\./etc/passwd' is missing"),
    ("a file without a sha", lambda m: m["files"].update({"config.json": "1"}), "file 'config.json' needs"),
]  # fmt: skip
MODEL_ALONE_KNOWS = ("a vector elsewhere", "another matrix shape")


@pytest.mark.parametrize(("name", "change", "reason"), TAMPERED, ids=[case[0] for case in TAMPERED])
def test_a_tampered_manifest_is_refused(name: str, change: Callable, reason: str, artifact: Path) -> None:
    rewrite_manifest(artifact, change)
    with pytest.raises(UserError, match=reason):
        load(artifact)
    if name not in MODEL_ALONE_KNOWS:
        with pytest.raises(UserError, match=reason):
            verify(artifact)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mask", "9" * 14),
        ("up.sparse", f"{'9' * 14}x6 gaps 9 9+36 0123456789ab"),
        ("up.left", f"16x{'9' * 14} dense 128 0123456789ab"),
        ("image.weight", f"6x3x{'9' * 14}x3 bitmask 9 9+36 0123456789ab"),
    ],
)
def test_huge_shapes_are_refused_before_memory_is_asked_for(
    name: str, text: str, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite_manifest(artifact, line(name, text))
    monkeypatch.setattr("rcc.artifact.verify.decode", pytest.fail)
    with pytest.raises(UserError):
        load(artifact)
    with pytest.raises(UserError):
        verify(artifact)


def test_a_rank_without_bound_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    toy = dense_toy()
    unit = next(unit for unit in toy.units() if unit.name == "up")
    unit.write(Form(left=torch.zeros(16, 23), right=torch.zeros(23, 6), bias=unit.read().bias))
    write_artifact(toy, tmp_path / "artifact")
    with pytest.raises(UserError, match=r"unit 'up' .* its rank is 23 for a weight of \(16, 6\)"):
        load(tmp_path / "artifact")


def test_all_that_is_wrong_is_said_at_once(artifact: Path) -> None:
    rewrite_manifest(artifact, lambda m: (line("mask", "x")(m), line("norm.bias", "y")(m)))
    with pytest.raises(UserError) as caught:
        verify(artifact)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"null", b"[" * 100_000])
def test_a_manifest_that_is_not_json_is_refused(content: bytes, artifact: Path) -> None:
    (artifact / "manifest.json").write_bytes(content)
    refused(artifact, r"manifest\.json")


def test_what_is_no_artifact_says_what_was_found(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "is not an artifact.*there is no such folder")
    (tmp_path / "pytorch_model.bin").write_text("x")
    refused(tmp_path, r"no manifest\.json \(found: pytorch_model\.bin\)")


def test_an_unreadable_artifact_is_a_user_error(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    refused(artifact, r"cannot read .*manifest\.json: Permission denied")


def test_an_artifact_can_be_moved(artifact: Path, tmp_path: Path) -> None:
    shutil.move(artifact, tmp_path / "elsewhere")
    verify(tmp_path / "elsewhere")


def test_metrics_can_be_recorded_later_and_change_nothing_else(artifact: Path) -> None:
    before = read_manifest(artifact)
    record_metrics(artifact, {"test": {"accuracy": 0.98, "undefined": float("nan")}})
    after = read_manifest(artifact)
    assert after.metrics == {"test": {"accuracy": 0.98, "undefined": None}}
    assert replace(after, metrics={}) == replace(before, metrics={})
    verify(artifact)
