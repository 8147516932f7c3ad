"""Places of data sets: files and folders that are there, names that can be names, rows that stay in their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rcc.data.files.location import inside, located, shown
from rcc.errors import UserError


def test_a_file_or_a_folder_is_given_back(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    assert located("it", str(tmp_path / "a.csv")) == tmp_path / "a.csv"
    assert located("it", tmp_path) == tmp_path


def test_what_is_neither_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.csv")
    for path in (tmp_path / "fifo.csv", Path("/dev/zero")):
        with pytest.raises(UserError, match=f"{path} is no regular file"):
            located("it", path)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("a\0b", "which holds a NUL|holds a NUL character"),
        ("caf\udce9", "holds '.udce9', which is no character"),
        ("a" * 300, "has a name of 300 bytes, and 255 is the most"),
        ("a/" * 3000, "has 6000 bytes, and 4095 is the most"),
        ("~nobody-of-this-name/data", "cannot be found: "),
    ],
)
def test_what_can_be_no_name_is_refused_with_the_option(path: str, told: str) -> None:
    with pytest.raises(UserError, match=f"data.path '.*{told}") as refused:
        located("it", path)
    assert len(str(refused.value)) < 400


def test_a_row_names_a_file_by_its_place_in_the_folder_or_in_full(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/b.png") == tmp_path / "a/b.png"
    assert inside(tmp_path, str(tmp_path / "b.png")) == tmp_path / "b.png"
    with pytest.raises(UserError, match=r"'a/\.\./\.\./b\.png', which is not in"):
        inside(tmp_path, "a/../../b.png")


def test_long_names_are_cut_in_messages() -> None:
    assert shown(["a", "b" * 500]) == f"'a', '{'b' * 60}…{'b' * 30} (500 characters)'"
