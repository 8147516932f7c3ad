"""A manifest that was tampered with or damaged is refused by name, before memory is asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toys.artifacts import refused, rewrite_manifest

from rcc.artifact.load import load
from rcc.artifact.manifest import read_manifest, record_metrics
from rcc.artifact.verify import verify
from rcc.errors import UserError


def line(name: str, text: object) -> Callable[[dict[str, Any]], Any]:
    module, _, attribute = name.rpartition(".")
    return lambda manifest: manifest["modules"][module].update({attribute: text})


def reshaped(name: str, now: str, then: str) -> Callable[[dict[str, Any]], Any]:
    module, _, attribute = name.rpartition(".")
    return lambda manifest: line(name, manifest["modules"][module][attribute].replace(now, then))(manifest)


TAMPERED: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("another format", lambda m: m.update(format="gguf"), "is not the manifest of an artifact"),
    ("a newer version", lambda m: m.update(version=7), r"version 7 .*reads versions 2, 3, 4, 5, 6.*update rcc"),
    ("an older version", lambda m: m.update(version=1), r"version 1 .*reads versions 2, 3, 4, 5, 6.*compress the"),
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
    def unreadable(self: Path, *args: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", unreadable)
    refused(artifact, r"cannot read .*manifest\.json: Permission denied")


def test_metrics_can_be_recorded_later_and_change_nothing_else(artifact: Path) -> None:
    before = read_manifest(artifact)
    record_metrics(artifact, {"test": {"accuracy": 0.98, "undefined": float("nan")}})
    after = read_manifest(artifact)
    assert after.metrics == {"test": {"accuracy": 0.98, "undefined": None}}
    assert replace(after, metrics={}) == replace(before, metrics={})
    verify(artifact)


def test_a_manifest_whose_fields_were_changed_is_refused(artifact: Path) -> None:
    text = (artifact / "manifest.json").read_text()
    (artifact / "manifest.json").write_text(text.replace('"config":{}', '"config":{"seed":1}'))
    refused(artifact, r"manifest\.json is not the manifest that was written: its checksum is")


def test_the_checksum_is_the_sha256_of_the_other_fields_as_canonical_json(artifact: Path) -> None:
    manifest = json.loads((artifact / "manifest.json").read_text())
    noted = manifest.pop("checksum")
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    assert noted == hashlib.sha256(canonical.encode()).hexdigest()


def test_version_2_which_has_no_checksum_is_read(artifact: Path) -> None:
    written = read_manifest(artifact)
    manifest = json.loads((artifact / "manifest.json").read_text())
    del manifest["checksum"]
    (artifact / "manifest.json").write_text(json.dumps(manifest | {"version": 2}))
    assert read_manifest(artifact) == written
    load(artifact)
