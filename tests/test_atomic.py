from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from rcc.atomic import (
    clean_leftovers,
    disk_errors,
    foreign_errors,
    new_directory,
    reading,
    remove_directory,
    write_file,
)
from rcc.errors import UserError, WorkError


def test_a_directory_appears_with_all_its_files_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    with new_directory(target) as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "file").write_text("content")
        assert not target.exists()
    assert (target / "sub" / "file").read_text() == "content"
    assert list(target.parent.iterdir()) == [target]

    def fail() -> None:
        with new_directory(tmp_path / "failed") as partial:
            (partial / "file").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


def test_every_file_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, rename = os.fsync, os.rename

    def noting_sync(handle: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        sync(handle)

    def noting_rename(source: Path, target: Path) -> None:
        events.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noting_sync)
    monkeypatch.setattr(os, "rename", noting_rename)
    with new_directory(tmp_path / "target") as partial:
        (partial / "a").write_text("a")
        (partial / "b").write_text("b")
    assert events == ["a", "b", ".target.partial", "rename", tmp_path.name]


def test_an_existing_target_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "precious").write_text("1")
    with pytest.raises(UserError, match="exists already and is not overwritten"), new_directory(tmp_path / "target"):
        pytest.fail("the block must not run")
    assert (tmp_path / "target" / "precious").read_text() == "1"


def test_the_leftover_of_a_killed_write_does_not_get_into_the_next(tmp_path: Path) -> None:
    (tmp_path / ".target.partial").mkdir()
    (tmp_path / ".target.partial" / "old").write_text("old")
    with new_directory(tmp_path / "target") as partial:
        (partial / "new").write_text("new")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["new"]


def test_cleaning_removes_leftovers_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a.partial", ".b.removed", ".hidden", "c.partial", "kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    (tmp_path / ".run.json.partial").write_text("x")
    clean_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "c.partial", "kept"]
    clean_leftovers(tmp_path / "not there yet")


def test_a_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "deep" / "run.json"
    write_file(target, b"old")
    write_file(target, b"new")
    assert target.read_bytes() == b"new"

    def failing(source: Path, target: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(WorkError, match=r"run\.json: Input/output error"):
        write_file(target, b"newest")
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_removal_is_complete_and_starts_with_a_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> Path:
        (tmp_path / "step").mkdir()
        (tmp_path / "step" / "file").write_text("x")
        return tmp_path / "step"

    remove_directory(build())
    assert list(tmp_path.iterdir()) == []

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_directory(build())
    assert [path.name for path in tmp_path.iterdir()] == [".step.removed"]
    remove_directory(build())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "kind", "advice"),
    [
        (errno.ENOSPC, WorkError, "Free some space"),
        (errno.EDQUOT, WorkError, "Free some space"),
        (errno.EROFS, UserError, "Choose a folder you may write to"),
        (errno.EACCES, UserError, "Choose a folder you may write to"),
        (errno.EIO, WorkError, "Input/output error"),
    ],
)
def test_disk_errors_name_the_path_the_cause_and_what_to_do(
    number: int, kind: type[Exception], advice: str, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught, disk_errors(tmp_path / "artifact"):
        raise OSError(number, os.strerror(number), str(tmp_path / "inside"))
    text = str(caught.value)
    assert str(tmp_path / "artifact") in text
    assert str(tmp_path / "inside") in text
    assert os.strerror(number) in text
    assert advice in text


def test_a_file_where_a_folder_should_be_is_the_users_affair(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="Choose a folder"), new_directory(tmp_path / "file" / "artifact"):
        pytest.fail("the block must not run")


def test_what_cannot_be_read_is_a_user_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*gone.*No such file"), reading(tmp_path / "gone"):
        (tmp_path / "gone").read_bytes()


def test_what_is_no_directory_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "artifact").write_text("a file of the user's")
    with pytest.raises(UserError, match="artifact is in the way and no directory that rcc made"):
        remove_directory(tmp_path / "artifact")
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, WorkError), (errno.EFBIG, WorkError), (errno.EROFS, UserError)]
)
def test_an_error_of_a_writer_in_rust_is_the_same_as_one_of_ours(
    number: int, kind: type[Exception], tmp_path: Path
) -> None:
    with (
        pytest.raises(kind, match=f"cannot write .*{os.strerror(number)}"),
        disk_errors(tmp_path),
        foreign_errors(tmp_path),
    ):
        raise Exception(f"{os.strerror(number)} (os error {number})")  # as tokenizers raises it
    with pytest.raises(ValueError, match="another"), foreign_errors(tmp_path):
        raise ValueError("another")


def test_an_error_of_a_database_is_the_same_whatever_wraps_it(tmp_path: Path) -> None:
    def fill() -> None:
        with closing(sqlite3.connect(tmp_path / "study.db")) as study:
            study.execute("PRAGMA max_page_count = 2")  # a disk that is full, as far as SQLite knows
            study.execute("CREATE TABLE trials (content)")
            try:
                study.execute("INSERT INTO trials VALUES (?)", ("x" * 100_000,))
            except sqlite3.OperationalError as error:
                raise RuntimeError("the storage failed") from error

    with pytest.raises(WorkError, match="No space left on device"), disk_errors(tmp_path), foreign_errors(tmp_path):
        fill()
    with pytest.raises(sqlite3.OperationalError, match="no such table"), foreign_errors(tmp_path):
        sqlite3.connect(":memory:").execute("SELECT * FROM trials")
