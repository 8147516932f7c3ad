"""Class folders: files in the order of their names, however deep, and no link out of the folder of the data."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rcc.data.files.class_folders import class_files
from rcc.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("data/cat/b.png", "data/cat/deeper/a.png", "data/dog/c.JPG", "data/dog/.hidden.png", "data/.x/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "secret.png").touch()
    return tmp_path / "data"


def test_files_are_sorted_below_each_class(folder: Path) -> None:
    found = class_files(folder, folder)
    assert {name: [str(Path(file).relative_to(folder)) for file in files] for name, files in found.items()} == {
        "cat": ["cat/b.png", "cat/deeper/a.png"],
        "dog": ["dog/c.JPG"],
    }


def test_a_link_inside_the_data_is_followed(folder: Path) -> None:
    (folder / "dog/again.png").symlink_to("../cat/b.png")
    (folder / "puma").symlink_to("cat")
    found = class_files(folder, folder)
    assert len(found["dog"]) == 2
    assert len(found["puma"]) == 2


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("cat/way.png", "../../secret.png"),
        ("cat/loop.png", "loop.png"),
        ("all", ".."),
        ("cat/deeper/e.png", "/etc/fstab"),
    ],
)
def test_a_link_out_of_the_data_is_refused_by_name(folder: Path, link: str, target: str) -> None:
    (folder / link).symlink_to(target)
    with pytest.raises(UserError, match=rf"{link}' is a link that does not end in '.*data'"):
        class_files(folder, folder)


def test_a_part_may_link_into_another(folder: Path) -> None:
    (folder / "val").mkdir()
    (folder / "val/cat").symlink_to("../cat")
    assert len(class_files(folder / "val", folder)["cat"]) == 2
    with pytest.raises(UserError, match="val/cat' is a link that does not end in"):
        class_files(folder / "val", folder / "val")


def test_folders_within_folders_are_no_recursion(tmp_path: Path) -> None:
    deep = tmp_path / "cat"
    deep.mkdir()
    for _ in range(1200):
        deep = deep / "d"
        deep.mkdir()
    (deep / "a.png").touch()
    assert [Path(file).name for file in class_files(tmp_path, tmp_path)["cat"]] == ["a.png"]
    # pytest's own clearing away recurses.
    subprocess.run(["rm", "-rf", str(tmp_path / "cat")], check=True)
