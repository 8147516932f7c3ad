"""Artifacts altered on purpose, with a checksum that vouches for what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rcc.artifact.manifest import checksum


def rewrite_manifest(artifact: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest in place, as one who knows the format would."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    change(manifest)
    manifest["checksum"] = checksum(manifest)
    (artifact / "manifest.json").write_text(json.dumps(manifest))
