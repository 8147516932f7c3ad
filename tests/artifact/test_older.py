"""An artifact that version 3 of the format wrote is read to the same values, and written again in the present one."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from toys.adapters import compress, dense_toy, quantise

from rcc.artifact.load import load
from rcc.artifact.manifest import checksum, read_manifest, record_metrics
from rcc.artifact.verify import verify

OLDER = Path(__file__).parent / "older_v3"
"""`quantise(compress(dense_toy()), "image", "words")` in float16, written by the release before digits and words."""


def copied(tmp_path: Path) -> Path:
    for path in OLDER.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(OLDER)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path


def test_version_3_loads_to_the_same_values() -> None:
    assert json.loads((OLDER / "manifest.json").read_text())["version"] == 3
    expected = quantise(compress(dense_toy()), "image", "words").module.state_dict()
    found = load(OLDER).module.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        stepped = f"{name}_step" in expected or not tensor.is_floating_point()
        assert torch.equal(found[name], tensor if stepped else tensor.half().float()), name
    assert verify(OLDER) == sorted(read_manifest(OLDER).tensors)


def test_version_2_is_the_same_without_its_checksum(tmp_path: Path) -> None:
    path = copied(tmp_path) / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["checksum"]
    path.write_text(json.dumps(manifest | {"version": 2}))
    assert verify(tmp_path) == verify(OLDER)


def test_metrics_recorded_later_bring_the_manifest_to_the_present_version(tmp_path: Path) -> None:
    record_metrics(copied(tmp_path), {"kept": 0.75})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["version"], manifest["metrics"]) == (6, {"kept": 0.75})
    assert manifest["checksum"] == checksum(manifest)
    assert verify(tmp_path) == verify(OLDER)
