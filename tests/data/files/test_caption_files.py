"""Caption files: what stands in a line where another thing was thought is told by file, line and column."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rcc.data.files.caption_files import caption_files, read_captions
from rcc.errors import UserError
from rcc.limits import limits


def test_lines_of_one_image_are_joined_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,caption\n1.png,one\n2.png,two\n1.png,uno\n")
    files = caption_files("it", tmp_path)
    assert read_captions("it", files) == {"all": {"1.png": ["one", "uno"], "2.png": ["two"]}}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"image": "a.png", "caption": 7}, r"line 1 of '.*a\.jsonl': 'caption' is 7 \(int\) and not a text"),
        ({"image": "a.png", "caption": "\ud800"}, r"line 1 of .*'caption' holds '.ud800', half of a pair"),
        ({"image": ["a.png"], "caption": "a"}, r"line 1 of .* names no image\. Its column holds \['a\.png'\] \(list\)"),
        ({"image": "\udfff.png", "caption": "a"}, r"line 1 of .*the image holds '.udfff'"),
        ([1], r"a\.jsonl' cannot be read: line 1 is no record but \[1\] \(list\)"),
    ],
)
def test_a_line_of_another_kind_is_told(tmp_path: Path, line: object, told: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    with pytest.raises(UserError, match=told):
        read_captions("it", [tmp_path / "a.jsonl"])


def test_a_line_nested_too_deep_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n" + "[" * 10**5)
    with pytest.raises(UserError, match=r"a\.jsonl' cannot be read: line 2 is no JSON \(it is nested too deep\)"):
        read_captions("it", [tmp_path / "a.jsonl"])


@pytest.mark.parametrize(
    ("limit", "told"), [("table_bytes", "a.csv has 40 bytes"), ("text_bytes", "a line of .*a.csv")]
)
def test_a_file_and_a_line_beyond_their_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, told: str
) -> None:
    (tmp_path / "a.csv").write_text("image,caption\n1.png,a long long caption\n")
    monkeypatch.setattr(limits, limit, 20)
    with pytest.raises(UserError, match=rf"{told}.* at most 20 are read\. .*limits\.{limit}"):
        read_captions("it", [tmp_path / "a.csv"])
