"""Regular files of a bounded size are read, and nothing else."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from rcc.cli import main
from rcc.errors import UserError
from rcc.limits import Limits, limits, read_json, regular_file, set_limits
from rcc.shipped import config_dir


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


def test_a_link_in_a_circle_and_a_file_of_the_system_without_a_size_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop.json").symlink_to("loop.json")
    with pytest.raises(UserError, match=r"loop\.json is a link that leads back to itself"):
        read_json(tmp_path / "loop.json")
    monkeypatch.setattr(limits, "text_bytes", 10)
    assert Path("/proc/self/status").stat().st_size == 0
    with pytest.raises(UserError, match="has 11 bytes and at most 10 are read"):
        read_json(Path("/proc/self/status"))


def test_limits_are_options_of_every_job_with_the_defaults_of_python() -> None:
    shipped = yaml.safe_load((config_dir() / "config.yaml").read_text())
    assert shipped["limits"] == asdict(Limits())


def test_limits_are_set_by_name_all_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in asdict(limits).items():
        monkeypatch.setattr(limits, name, value)
    set_limits({"layers": 2, "width": 3})
    assert (limits.layers, limits.width, limits.tokens) == (2, 3, Limits().tokens)
    with pytest.raises(UserError) as refused:
        set_limits({"layers": 7, "width": 0, "tokens": "many", "widht": 1})
    assert [problem.partition(";")[0] for problem in refused.value.problems] == [
        "limits: width is 0",
        "limits: tokens is 'many'",
        f"limits: unknown limit 'widht'. Did you mean 'width'? Available: {', '.join(sorted(asdict(limits)))}.",
    ]
    assert limits.layers == 2


def test_the_limits_of_the_command_line_hold_in_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(limits, "layers", limits.layers)  # put back afterwards
    assert main(["limits.layers=1", "dry_run=true"]) == 2
    assert (
        "it must lie between 1 and 1. If it is sound, raise the limit: limits.layers=<more>" in capfd.readouterr().err
    )
    assert main(["dry_run=true"]) == 0
