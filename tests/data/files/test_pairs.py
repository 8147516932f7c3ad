"""Captions and image files: rows name files of their own folder alone, whatever links are in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from toys.files import picture

from rcc.data.files.pairs import paired
from rcc.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "data").mkdir()
    for place in ("outside", "data"):
        (tmp_path / place / "a.png").write_bytes(picture(0))
    return tmp_path / "data"


def test_a_file_below_the_folder_is_paired_also_by_a_link_that_stays_in_it(folder: Path) -> None:
    (folder / "b.png").symlink_to("a.png")
    parts, notes = paired("it", folder, {"train": {"a.png": ["a"], "b.png": ["b"]}}, "refuse")
    assert parts["train"].captions == (("a",), ("b",))
    assert notes == ()


@pytest.mark.parametrize("unpaired", ["refuse", "skip"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../outside/a.png", r"names the file '\.\./outside/a.png', which is not in '.*data' once links are followed"),
        ("/etc/passwd", "which is not in"),
        ("link.png", r"'link\.png', which is not in"),
        ("folder/a.png", r"'folder/a\.png', which is not in"),
        ("loop/a.png", r"'loop/a\.png', which is not in"),
        ("a" * 300 + ".png", "which has a name of 304 bytes, and 255 is the most"),
        ("x/" * 3000 + "a.png", "which has 6005 bytes, and 4095 is the most"),
        ("a\0.png", "which holds a NUL character"),
        ("a\ud800.png", r"which holds '.ud800', which is no character"),
    ],
)
def test_a_row_that_leads_elsewhere_is_refused_by_name(folder: Path, name: str, told: str, unpaired: str) -> None:
    (folder / "link.png").symlink_to("../outside/a.png")
    (folder / "folder").symlink_to("../outside")
    (folder / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=f"data 'it': a row names the file .*{told}" if "'" not in told else told):
        paired("it", folder, {"train": {"a.png": ["a"], name: ["b"]}}, unpaired)
