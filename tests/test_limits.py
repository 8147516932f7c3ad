"""Regular files of a bounded size are read, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rcc.errors import UserError
from rcc.limits import limits, read_json, regular_file


def test_a_regular_file_is_given_back(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "link.json").symlink_to("a.json")
    assert regular_file(tmp_path / "link.json", tmp_path, "text_bytes") == tmp_path / "link.json"
    assert read_json(tmp_path / "a.json", tmp_path) == {"a": 1}


def test_a_fifo_a_device_and_a_folder_are_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("fifo", "zero", "."):
        with pytest.raises(UserError, match="is no regular file"):
            regular_file(tmp_path / name)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/config.json").symlink_to("../secret")
    with pytest.raises(UserError, match="is a link out of"):
        regular_file(tmp_path / "in/config.json", tmp_path / "in")


def test_a_file_beyond_the_limit_names_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    monkeypatch.setattr(limits, "text_bytes", 7)
    with pytest.raises(UserError, match=r"has 8 bytes and at most 7 are read.*limits\.text_bytes"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("content", ["", "[1]", "[" * 10**5, '{"a":', "\udcff"])
def test_what_is_no_mapping_is_refused_by_name(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"a\.json"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"cannot read .*b\.json"):
        read_json(tmp_path / "b.json")
