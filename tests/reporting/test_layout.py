"""Tables as lines of a given width: what is broken first, what never is."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rcc.evaluation.retrieval.metrics import retrieval_metrics
from rcc.evaluation.retrieval.ranks import Pairs, Ranks
from rcc.measurement import Difference, Interval, Measurement, Metric
from rcc.measurement.shares import share_interval
from rcc.reporting.layout import laid_out, least_width, wrapped
from rcc.reporting.tables import Table, quality_table

SHARES = ("accuracy", "top5_accuracy", "mean_class_accuracy")
NUMBERS = Table(("step", "peak memory", "non-zeros"), (("dare", "400 MB", "450 k"), ("nullu", "1.20 GB", "1.25 M")))


def lines_of(table: Table, width: int) -> list[str]:
    return [line for part in laid_out(table, width) for line in (*part.head, *part.rows)]


def test_a_table_with_room_has_two_blanks_between_columns_and_numbers_at_the_right():
    [lines] = laid_out(NUMBERS, 80)
    assert lines.head == ["step   peak memory  non-zeros"]
    assert lines.rows == ["dare        400 MB      450 k", "nullu      1.20 GB     1.25 M"]
    assert lines.width == 29


def test_heads_go_on_several_lines_before_anything_else_is_broken():
    [lines] = laid_out(NUMBERS, 22)
    assert lines.head == ["          peak    non-", "step    memory   zeros"]
    assert lines.rows == ["dare    400 MB   450 k", "nullu  1.20 GB  1.25 M"]
    assert lines.width == 22


def test_blanks_between_columns_give_way_last():
    [lines] = laid_out(NUMBERS, 21)
    assert lines.rows == ["dare   400 MB  450 k", "nullu 1.20 GB 1.25 M"]


def test_names_are_broken_between_words_into_lines_of_about_one_length():
    table = Table(("metric", "dense"), (("image_to_text_recall_at_1", "2.60%"), ("text_to_image_median_rank", "12")))
    [lines] = laid_out(table, 31)
    assert lines.rows == ["image_to_text_recall_at_1 2.60%", "text_to_image_median_rank    12"]
    [lines] = laid_out(table, 30)
    assert lines.rows == [
        "image_to_text_ 2.60%",
        "  recall_at_1",
        "text_to_image_    12",
        "  median_rank",
    ]


def test_a_short_name_is_not_broken_and_the_table_goes_on_in_another_beside_the_first_column():
    table = Table(("step", "outcome", "strength", "size"), (("dare 2/3", "kept", "0.9", "900 kB"),), left=2)
    first, second = laid_out(table, 25)
    assert (first.head, first.rows) == (["step      outcome"], ["dare 2/3  kept"])
    assert (second.head, second.rows) == (["step     strength   size"], ["dare 2/3      0.9 900 kB"])


def test_a_name_of_one_long_word_runs_over_the_width_and_stays_whole():
    [lines] = laid_out(Table(("name", "n"), (("abcdefghijklmnopqrstuvwxyz", "1"),)), 20)
    assert lines.rows == ["abcdefghijklmnopqrstuvwxyz 1"]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("image_to_text_recall_at_10 (primary)", ["image_", "to_", "text_", "recall_", "at_10", "(primary)"]),
        ("text.layers.11.fc1, 2/3", ["text.", "layers.11.", "fc1,", "2/3"]),
        ("1e-05 of -0.5", ["1e-05", "of", "-0.5"]),
        ("", [""]),
    ],
)
def test_text_is_broken_at_blanks_and_behind_punctuation_but_never_before_a_number(text, pieces):
    assert wrapped(text, 1) == pieces


def test_a_wide_character_takes_two_places():
    [lines] = laid_out(Table(("name", "n"), (("猫の写真", "1"), ("ab", "10"))), 80)
    assert lines.rows == ["猫の写真   1", "ab        10"]


def retrieval() -> tuple[Metric, ...]:
    """The real metrics of 500 images with one text each."""
    each = torch.arange(500)
    ranks = torch.randint(1, 500, (2, 500), generator=torch.Generator().manual_seed(0))
    return retrieval_metrics(Ranks(*ranks), Pairs(each, each, 500, 500))


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_the_test_table_of_retrieval_and_classes_fits_with_numbers_and_words_whole(delivery, width):
    bounds = share_interval(0.1, 300)
    metrics = (*retrieval(), *(Metric(name, 0.1, "fraction", interval=bounds) for name in SHARES))
    dense = Measurement(metrics, "r_mean", "test", 500)
    differences = {metric.name: Difference(-0.0055, 0.0047, Interval(-0.0189, 0.0051)) for metric in metrics}
    table = quality_table(replace(delivery, dense=dense, compressed=dense, differences=differences))
    lines = lines_of(table, width)
    assert max(map(len, lines)) <= width
    assert len(laid_out(table, width)) == {40: 2, 60: 2}.get(width, 1)
    text = "\n".join(lines)
    assert all(cell in text for row in table.rows for cell in row[1:])
    assert not re.search(r"_$\n\s*\d", text, re.MULTILINE)
    if width == 100:
        assert all(row[0] in text for row in table.rows)


WORDS = st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=5).map("_".join)
CELLS = st.sampled_from(["-", "0.45", "67.91 … 76.10", "-2.50 points"])


@given(st.data(), st.integers(1, 5), st.integers(0, 4), st.integers(45, 90))
def test_every_cell_and_word_is_there_whole_and_lines_fit(data, columns, rows, width):
    table = Table(
        tuple(data.draw(WORDS) for _ in range(columns)),
        tuple((data.draw(WORDS), *(data.draw(CELLS) for _ in range(columns - 1))) for _ in range(rows)),
    )
    parts = laid_out(table, width)
    text = "\n".join(line for part in parts for line in (*part.head, *part.rows))
    assert all(part.width <= width for part in parts)
    assert all(len(line) <= part.width for part in parts for line in (*part.head, *part.rows))
    assert (len(parts) == 1) == (least_width(table) <= width)
    for row in table.rows:
        assert all(word in text for word in re.split("(?<=_)", row[0]))
        assert all(text.count(cell) >= sum(cell == other for other in row[1:]) for cell in row[1:])
    assert [word for name in table.head for word in re.split("(?<=_)", name) if word not in text] == []
