"""Artifacts altered on purpose, with a checksum that vouches for what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rcc.artifact.load import load
from rcc.artifact.manifest import checksum
from rcc.artifact.verify import verify
from rcc.errors import UserError


def rewrite_manifest(artifact: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest in place, as one who knows the format would."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    change(manifest)
    manifest["checksum"] = checksum(manifest)
    (artifact / "manifest.json").write_text(json.dumps(manifest))


def refused(artifact: Path, *reasons: str) -> None:
    """Assert that verifying and loading both refuse the artifact, for every one of `reasons` (patterns)."""
    for check in (verify, load):
        with pytest.raises(UserError) as caught:
            check(artifact)
        for reason in reasons:
            assert re.search(reason, str(caught.value)), str(caught.value)
