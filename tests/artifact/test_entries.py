from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcc.artifact.contents import DTYPES
from rcc.artifact.entries import (
    FileEntry,
    Matrix,
    Stream,
    Vector,
    entry_text,
    parse_entry,
    parse_file,
    parse_stream,
    stream_text,
    vector_order,
)
from rcc.errors import Problems, UserError
from rcc.layers.encoding import Outliers

LINES = [
    ("128", Vector((128,), "float16")),
    ("scalar", Vector((), "float16")),
    ("3 int64", Vector((3,), "int64")),
    ("4x2 dense 16 0123456789ab", Matrix((4, 2), "float16", "dense", 8, 0, (16,), "0123456789ab")),
    ("4x2 dense 8+3 0123456789ab", Matrix((4, 2), "float16", "dense", 8, 0, (8, 3), "0123456789ab")),
    ("4x2x3 bitmask 2 3+4 0123456789ab", Matrix((4, 2, 3), "float16", "bitmask", 2, 0, (3, 4), "0123456789ab")),
    ("4x900 float32 gaps 2~3 5+8 0123456789ab", Matrix((4, 900), "float32", "gaps", 2, 3, (5, 8), "0123456789ab")),
    (
        "4x2 int8*step bitmask 2 -1:3 1+1 0123456789ab",
        Matrix((4, 2), "int8", "bitmask", 2, 0, (1, 1), "0123456789ab", True, (-1, 3)),
    ),
    ("4x2 int8 dense 5:5 0 0123456789ab", Matrix((4, 2), "int8", "dense", 8, 0, (0,), "0123456789ab", False, (5, 5))),
    (
        "4x200 int8*step dense -1:1 gaps:1~2 160+3+1 0123456789ab",
        Matrix((4, 200), "int8", "dense", 800, 0, (160, 3, 1), "0123456789ab", True, (-1, 1), Outliers("gaps", 1, 2)),
    ),
    (
        "4x2 int8*step bitmask 2 -1:1 bitmask:1 1+1+1+1 0123456789ab",
        Matrix((4, 2), "int8", "bitmask", 2, 0, (1,) * 4, "0123456789ab", True, (-1, 1), Outliers("bitmask", 1, 0)),
    ),
    ("4x2 int8*step csr 3 4+3+3 0123456789ab", Matrix((4, 2), "int8", "csr", 3, 0, (4, 3, 3), "0123456789ab", True)),
]


@pytest.mark.parametrize(("line", "entry"), LINES, ids=[line for line, _ in LINES])
def test_a_line_says_an_entry_and_an_entry_its_line(line: str, entry: Vector | Matrix) -> None:
    problems = Problems()
    assert parse_entry("w", line, "float16", problems) == entry
    assert entry_text(entry, "float16") == line
    problems.done()


@given(
    st.lists(st.integers(0, 50), max_size=1).map(tuple),
    st.sampled_from(sorted(DTYPES)),
    st.sampled_from(sorted(DTYPES)),
)
def test_every_vector_comes_back(shape: tuple[int, ...], dtype: str, default: str) -> None:
    vector, problems = Vector(shape, dtype), Problems()
    assert parse_entry("w", entry_text(vector, default), default, problems) == vector
    problems.done()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (7, "is 7, which is no line of a tensor"),
        (["128"], "which is no line of a tensor"),
        ("", "which is no line of a tensor"),
        ("-2", "which is no line of a tensor"),
        ("2.0", "which is no line of a tensor"),
        ("٣", "which is no line of a tensor"),
        ("4x2", "says nothing of its bytes"),
        ("128 float8", "unknown dtype of tensor 'w' 'float8'"),
        ("4x2 zip 16 0123456789ab", "unknown encoding of tensor 'w' 'zip'"),
        ("4x2 object dense 16 0123456789ab", "unknown dtype of tensor 'w' 'object'"),
        ("4x2 dense 16", "which is no line of a tensor"),
        ("4x2 dense 16 0123456789AB", "which is no line of a tensor"),
        ("4x2 dense 16 0123456789abcd", "which is no line of a tensor"),
        ("4x2 dense 17 0123456789ab", r"cannot take \[17\] bytes as dense float16"),
        ("4x2 dense 8+8+1 0123456789ab", r"cannot take \[8, 8, 1\] bytes"),
        ("4x2 dense 3 16 0123456789ab", "is stored dense and counts non-zeros"),
        ("4x2 bitmask 1+2 0123456789ab", "is stored bitmask and counts no non-zeros"),
        ("4x2 bitmask 9 1+18 0123456789ab", "cannot have 9 non-zeros"),
        ("4x2 bitmask 2 2+4 0123456789ab", r"cannot take \[2, 4\] bytes"),
        ("4x2 bitmask 2 1 0123456789ab", r"cannot take \[1\] bytes"),
        ("4x2 int8 dense -1:1 3 0123456789ab", r"cannot take \[3\] bytes as dense int8"),
        ("4x2 int8 dense 1:-1 2 0123456789ab", "cannot have values from 1 to -1"),
        ("4x2 int8 dense 0:200 8 0123456789ab", "cannot have values from 0 to 200"),
        ("4x2 dense -1:1 2 0123456789ab", "cannot have values from -1 to 1"),
        ("4x2 int8 dense gaps:1 8+1+1 0123456789ab", "has outliers without digits"),
        ("4x2 int8 dense -1:1 gaps:0 2+0+0 0123456789ab", "names an index of outliers and has none"),
        ("4x2 int8 dense -1:1 zip:1 2+1+1 0123456789ab", "unknown index of outliers of tensor 'w' 'zip'"),
        ("4x2 int8 dense -1:1 gaps:9 2+9+9 0123456789ab", "cannot have 9 non-zeros"),
        ("4x2 int8 dense -1:1 gaps:1~1 2+2+1 0123456789ab", "cannot have 1 escapes"),
        ("4x2 int8 dense -1:1 bitmask:1 2+2+1 0123456789ab", r"cannot take \[2, 2, 1\] bytes"),
        ("1x99999 int8 dense 0:0 csr:1 0+1+1+1 0123456789ab", "more than the 65536 columns"),
        ("4x2 int8 bitmask 2 0:0 1+0 0123456789ab", "has zeros alone and counts non-zeros"),
        ("4x2 gaps 2~1 3+4 0123456789ab", "cannot have 1 escapes"),
        ("1x99999 csr 1 1+1+2 0123456789ab", "more than the 65536 columns"),
        ("8 dense 16 0123456789ab", "is no matrix"),
        (f"{'9' * 16}x2 dense 16 0123456789ab", "which is no line of a tensor"),
    ],
)
def test_a_line_that_contradicts_itself_is_refused(line: object, reason: str) -> None:
    problems = Problems()
    assert parse_entry("w", line, "float16", problems) is None
    with pytest.raises(UserError, match=reason):
        problems.done()


def test_streams_and_files_are_lengths_and_digests() -> None:
    problems = Problems()
    stream = Stream((20, 7), "0123456789ab")
    assert parse_stream("float16", stream_text(stream), 20, problems) == stream
    assert parse_stream("float16", "40 0123456789ab", 20, problems) == Stream((40,), "0123456789ab")
    file = FileEntry(1102, "0123456789abcdef" * 2)
    assert parse_file("config.json", str(file), problems) == file
    problems.done()


@pytest.mark.parametrize(
    ("text", "count"), [("41 0123456789ab", 20), ("20+20+20 0123456789ab", 20), ("x", 1), (None, 1)]
)
def test_streams_that_do_not_fit_are_refused(text: object, count: int) -> None:
    problems = Problems()
    assert parse_stream("float16", text, count, problems) is None
    assert len(problems.found) == 1


def test_vectors_of_a_kind_lie_together() -> None:
    assert vector_order(["b.scale", "a.bias", "logit", "b.bias", "a.scale"]) == [
        "a.bias", "b.bias", "logit", "a.scale", "b.scale",
    ]  # fmt: skip
