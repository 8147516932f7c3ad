"""Every way to damage an artifact ends in an error that names the file or the tensor."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_model import ToyAdapter

from rcc.artifact.load import load
from rcc.artifact.manifest import read_manifest, record_metrics
from rcc.artifact.verify import verify
from rcc.errors import UserError


def rewrite_manifest(artifact: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((artifact / "manifest.json").read_text())
    change(manifest)
    (artifact / "manifest.json").write_text(json.dumps(manifest))


def rewrite_weights(artifact: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(artifact / "weights.safetensors").items()}
    change(tensors)
    save_file(tensors, artifact / "weights.safetensors")


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
    data = 8 + int.from_bytes(sound[:8], "little")
    header = json.loads(sound[8:data])
    for key, entry in header.items():
        begin, end = entry["data_offsets"]
        damaged = bytearray(sound)
        damaged[data + (begin + end) // 2] ^= 0x10
        weights.write_bytes(damaged)
        with pytest.raises(UserError) as caught:
            verify(artifact)
        assert f"tensor '{key.removesuffix('.mask').removesuffix('.values')}'" in str(caught.value)
        assert len(caught.value.problems) == 1


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


def test_missing_and_extra_tensors_of_the_file_are_named(artifact: Path) -> None:
    rewrite_weights(artifact, lambda tensors: tensors.pop("norm.weight"))
    refused(artifact, r"tensor 'norm\.weight' is missing")
    rewrite_weights(artifact, lambda tensors: tensors.update({"backdoor": torch.ones(1)}))
    refused(artifact, "tensor 'backdoor' is not in the manifest", r"tensor 'norm\.weight' is missing")


def test_half_a_bitmask_is_refused(artifact: Path) -> None:
    rewrite_weights(artifact, lambda tensors: tensors.pop("up.sparse.mask"))
    refused(artifact, r"tensor 'up\.sparse' is missing \(no 'up\.sparse\.mask' in the file\)")


def test_a_foreign_safetensors_is_refused_briefly(artifact: Path) -> None:
    save_file({f"layer.{index}": torch.ones(1) for index in range(500)}, artifact / "weights.safetensors")
    refused(artifact, "is missing", r"tensor 'layer\.0' is not in the manifest")
    with pytest.raises(UserError) as caught:
        verify(artifact)
    assert len(caught.value.problems) <= 20


def test_another_dtype_or_shape_in_the_file_is_refused(artifact: Path) -> None:
    rewrite_weights(artifact, lambda tensors: tensors.update({"norm.bias": torch.ones(16, dtype=torch.float16)}))
    refused(artifact, r"tensor 'norm\.bias': 'norm\.bias' is stored as F16 \(16,\) and the manifest says F32 \(16,\)")
    rewrite_weights(artifact, lambda tensors: tensors.update({"norm.bias": torch.ones(4, 4)}))
    refused(artifact, r"F32 \(4, 4\) and the manifest says F32 \(16,\)")


def test_a_mask_that_disagrees_with_its_values_is_refused(artifact: Path) -> None:
    from rcc.artifact.weights import digest

    def unmark(tensors: dict[str, torch.Tensor]) -> None:
        tensors["up.sparse.mask"].zero_()
        sha256 = digest([tensors["up.sparse.mask"], tensors["up.sparse.values"]])
        rewrite_manifest(artifact, lambda manifest: manifest["tensors"]["up.sparse"].update(sha256=sha256))

    rewrite_weights(artifact, unmark)
    refused(artifact, r"tensor 'up\.sparse' has a mask that does not mark \d+ values")
    with pytest.raises(UserError, match=r"tensor 'up\.sparse' mask marks 0 values"):
        load(artifact, verify=False)


TAMPERED: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("another format", lambda m: m.update(format="gguf"), "is not the manifest of an artifact"),
    ("a newer version", lambda m: m.update(version=2), r"version 2 .*reads version 1.*update rcc"),
    ("version true", lambda m: m.update(version=True), "version"),
    ("no tensors", lambda m: m.pop("tensors"), "'tensors' is missing"),
    ("tensors a list", lambda m: m.update(tensors=[]), "'tensors' is missing or not a dict"),
    ("a tensor as text", lambda m: m["tensors"].update(mask="x"), "'mask' is not a mapping"),
    ("an unknown encoding", lambda m: m["tensors"]["mask"].update(encoding="zstd"),
     "unknown encoding of tensor 'mask' 'zstd'.*bitmask, dense"),
    ("an unknown dtype", lambda m: m["tensors"]["mask"].update(dtype="object"), "unknown dtype of tensor 'mask'"),
    ("a shape of text", lambda m: m["tensors"]["mask"].update(shape="2"), "tensor 'mask' has the shape '2'"),
    ("a negative shape", lambda m: m["tensors"]["mask"].update(shape=[-2]), r"tensor 'mask' has the shape \[-2\]"),
    ("a fractional shape", lambda m: m["tensors"]["mask"].update(shape=[2.0]), "tensor 'mask' has the shape"),
    ("too many non-zeros", lambda m: m["tensors"]["mask"].update(nonzeros=3), "cannot have 3 non-zeros"),
    ("no sha", lambda m: m["tensors"]["mask"].update(sha256="abc"), "tensor 'mask' has no SHA-256"),
    ("an extra key", lambda m: m["tensors"]["mask"].update(path="/etc/passwd"), "tensor 'mask' has .*'path'"),
    ("another dense shape", lambda m: m["tensors"]["norm.bias"].update(shape=[4, 4]), r"tensor 'norm\.bias'"),
    ("another bitmask shape", lambda m: m["tensors"]["up.sparse"].update(shape=[6, 16]),
     r"unit 'up' has a part 'sparse' of shape \[16, 6\] and its tensor has \[6, 16\]"),
    ("a tie to nothing", lambda m: m["tied"].update(a="b"), "'a' is tied to 'b', which is not a stored tensor"),
    ("an unknown kind", lambda m: m["structure"]["up"].update(kind="lstm"), "unknown kind of unit 'up'"),
    ("unknown parts", lambda m: m["structure"]["up"]["parts"].update(middle=[2, 2]), "which is no form of a weight"),
    ("half a pair", lambda m: m["structure"]["one"]["parts"].pop("left"), "which is no form of a weight"),
    ("no parts", lambda m: m["structure"]["one"].update(parts={}), "which is no form of a weight"),
    ("a unit of a unit", lambda m: m["structure"].update(one=[]), "structure: 'one' is not a mapping"),
    ("a file elsewhere", lambda m: m["files"].update({"../../etc/passwd": {"bytes": 1, "sha256": "0" * 64}}),
     r"the file '\.\./\.\./etc/passwd' is missing"),
    ("a file without a sha", lambda m: m["files"].update({"config.json": {"bytes": 1}}), "file 'config.json' needs"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), [case[1:] for case in TAMPERED], ids=[case[0] for case in TAMPERED])
def test_a_tampered_manifest_is_refused(change: Callable, reason: str, artifact: Path) -> None:
    rewrite_manifest(artifact, change)
    refused(artifact, reason)


@pytest.mark.parametrize("name", ["mask", "up.sparse", "up.left"])
def test_huge_shapes_are_refused_before_memory_is_asked_for(name: str, artifact: Path, monkeypatch) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["tensors"][name]["shape"] = [2**40, 2**40]
        unit, _, part = name.partition(".")
        if part:
            manifest["structure"][unit]["parts"][part] = [2**40, 2**40]

    rewrite_manifest(artifact, change)
    monkeypatch.setattr("rcc.artifact.verify.decode", pytest.fail)
    refused(artifact, f"tensor '{name}'")


def test_all_that_is_wrong_is_said_at_once(artifact: Path) -> None:
    rewrite_manifest(
        artifact, lambda m: (m["tensors"]["mask"].update(dtype="x"), m["tensors"]["norm.bias"].update(encoding="y"))
    )
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
    assert (after.tensors, after.structure, after.files, after.config) == (
        before.tensors, before.structure, before.files, before.config,
    )  # fmt: skip
    verify(artifact)
