"""Read a list of directories of runs and sweeps, as `runs=` gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rcc.errors import Problems, nearest
from rcc.limits import expanded


def places_of(job: str, given: Any, found: Problems) -> list[Path]:
    """The directories of `runs=`, each once; what is no directory is noted in `found`."""
    texts = [given] if isinstance(given, str) else given
    if not found.check(
        isinstance(texts, list) and bool(texts),
        f"{job} needs runs: give directories of runs or folders of sweeps, runs=[<directory>,<directory>].",
    ):
        return []
    places: dict[Path, None] = {}
    for text in texts:
        if not found.path("runs", text):
            continue
        with found.collecting():
            path = expanded("runs", text)
            siblings = [str(other) for other in path.parent.iterdir()] if path.parent.is_dir() else []
            if found.check(path.is_dir(), f"runs: {text} is no directory.{nearest(str(path), siblings)}"):
                places[path] = None
    return list(places)
