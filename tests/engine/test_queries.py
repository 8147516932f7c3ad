"""Queries as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rcc.engine.queries import Query, read_query
from rcc.errors import UserError


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("a dog on grass", (("a dog on grass", 1.0),)),
        ("dog:1 snow:-0.5", (("dog", 1.0), ("snow", -0.5))),
        ("'red dog':2 \"white snow\":1", (("red dog", 2.0), ("white snow", 1.0))),
        ("at 10:30 in the park", (("at 10:30 in the park", 1.0),)),
        ("ratio 4:3", (("ratio 4:3", 1.0),)),
        ("dog:1 and snow", (("dog:1 and snow", 1.0),)),
    ],
)
def test_words_are_weighed_only_where_each_has_a_weight(text: str, texts: tuple[tuple[str, float], ...]) -> None:
    assert read_query(text) == Query(texts=texts)


def test_a_name_that_ends_as_images_do_is_one(tmp_path: Path) -> None:
    path = tmp_path / "Photo.JPG"
    path.write_bytes(b"")
    assert read_query(str(path)) == Query(image=path)
    with pytest.raises(UserError, match=r"query=no\.png: there is no such image"):
        read_query("no.png")


@pytest.mark.parametrize(("text", "message"), [("  ", "query is empty"), ("a:0 b:0", "all weights are zero")])
def test_what_looks_for_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_query(text)
