"""Patterns of names stand for the modules that they were made of, and never for more than their bytes justify."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.adapters import compress, dense_toy, quantise
from toys.artifacts import refused, rewrite_manifest

from rcc.artifact.manifest import read_manifest
from rcc.artifact.patterns import EXPANSION, expanded, factored, justified
from rcc.artifact.verify import verify
from rcc.artifact.write import write_artifact
from rcc.errors import Problems
from rcc.models.transformers.clip import CLIPWrapper

PARTS = st.sampled_from(["layers", "0", "1", "2", "3", "9", "10", "007", "q", "v", "a{b", "}", "{0,1}", "x,y", ""])
NAMES = st.lists(PARTS, max_size=4).map(".".join)
MODULES = st.dictionaries(
    NAMES,
    st.dictionaries(st.sampled_from(["weight", "bias"]), st.sampled_from(["8", "8 =3c00", "8 *9p-2", "4x2 gaps 1 2"])),
    max_size=12,
)


@given(MODULES)
@settings(max_examples=150, deadline=None)
def test_whatever_the_names_they_come_back(modules: dict[str, dict[str, str]]) -> None:
    problems = Problems("")
    ample = sum(len(name) + EXPANSION * 4 for name in modules)
    assert expanded(json.loads(json.dumps(factored(modules))), ample, problems) == modules
    assert problems.found == []


def test_modules_that_differ_in_two_parts_become_one_line() -> None:
    modules = {
        f"layers.{layer}.{name}": {"bias": "8", "weight": f"8x4 gaps {layer} {name}"}
        for layer in range(11)
        for name in ("q", "v")
    }
    (pattern,) = (found := factored(modules))
    assert pattern == "layers.{0..10}.{q,v}"
    assert found[pattern]["bias"] == "8"
    assert found[pattern]["weight"][:4] == ["8x4 gaps", "0 q", "0 v", "1 q"]
    assert factored({"a": {"w": "8"}, "b": {"w": "4"}}) == {"a": {"w": "8"}, "b": {"w": "4"}}


@pytest.mark.parametrize(
    ("pattern", "lines", "reason"),
    [
        ("a.{0..2", {"w": "8"}, "is no pattern"),
        ("a.{2..0}", {"w": "8"}, "is no pattern"),
        ("a.{01..3}", {"w": "8"}, "is no pattern"),
        ("a.{0..9999999}", {"w": "8"}, "is no pattern"),
        ("a.{b}", {"w": "8"}, "is no pattern"),
        ("a.b}", {"w": "8"}, "is no pattern"),
        ("a.{b,b}", {"w": "8"}, "names 'a.b' a second time"),
        ("up", {"w": "8"}, None),
        ("a.{0..2}", {"w": ["8", "1", "2"]}, r"stands for 3 modules, and 'w' is no beginning and 3 rests"),
        ("a.{0..1}", {"w": ["8", "1", 2]}, "is no beginning and 2 rests"),
        ("a.{0..999999}", {"w": "8 =3c00"}, "stands for 1000000 modules, more than the manifest's bytes justify"),
        (".".join(["{a,b}"] * 60), {}, f"stands for {2**60} modules, more than"),
        (f"{'a' * 5000}.{{0..999}}", {"w": "8"}, "stands for 1000 modules, more than"),
    ],
)
def test_a_forged_pattern_is_refused_before_it_is_expanded(
    pattern: str, lines: dict[str, object], reason: str | None, artifact: Path
) -> None:
    if reason is None:
        pattern, reason = "{up,down}", "names 'up' a second time"
    rewrite_manifest(artifact, lambda manifest: manifest["modules"].update({pattern: lines}))
    refused(artifact, reason)


def test_a_version_4_manifest_reads_braces_as_they_are(tmp_path: Path) -> None:
    toy = quantise(compress(dense_toy()), "words")
    write_artifact(toy, tmp_path / "artifact")
    before = read_manifest(tmp_path / "artifact")

    def older(manifest: dict[str, object]) -> None:
        manifest["modules"] = expanded(manifest["modules"], 10_000, Problems(""))
        manifest["version"] = 4

    rewrite_manifest(tmp_path / "artifact", older)
    assert read_manifest(tmp_path / "artifact") == before
    assert verify(tmp_path / "artifact") == sorted(before.tensors)
    rewrite_manifest(tmp_path / "artifact", lambda m: m["modules"].update({"{a,b}": {"w": "8 =00000000"}}))
    assert "{a,b}.w" in read_manifest(tmp_path / "artifact").tensors


def test_layers_alike_share_a_line_and_few_bytes_never_stand_for_more_than_is_read(
    clip: CLIPWrapper, tmp_path: Path
) -> None:
    write_artifact(clip, tmp_path / "artifact")
    modules = json.loads((tmp_path / "artifact/manifest.json").read_text())["modules"]
    assert any("{k_proj,out_proj,q_proj,v_proj}" in name for name in modules)
    many = {f"norms.{number}": {"weight": "8 =3c00", "bias": "8 =0000"} for number in range(2000)}
    assert not justified(many, len(json.dumps(factored(many))))
    assert justified(many, len(json.dumps(many)))
