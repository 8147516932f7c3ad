"""Layers are laid out by block and kind, with the last value of each measure."""

from __future__ import annotations

import pytest

from rcc.reporting.page.heat import LEVELS, heat_maps, layers_of, placed
from rcc.reporting.recorded.numbers import StepNumbers


def step(index, layers, kept=1.0):
    return StepNumbers(index, values={"kept": kept, "retention": 1.0}, layers=layers)


@pytest.mark.parametrize(
    ("layer", "place"),
    [
        ("vision.layers.3.self_attn.q_proj", ("vision.layers.3", "self_attn.q_proj")),
        ("layer1.0.conv1", ("layer1.0", "conv1")),
        ("features.0.1.conv.2", ("features.0.1", "conv.2")),
        ("text_projection", ("", "text_projection")),
        ("embeddings.token", ("", "embeddings.token")),
        ("0", ("", "0")),
    ],
)
def test_a_layer_has_a_block_and_a_kind(layer, place):
    assert placed(layer) == place


def test_the_last_step_that_was_kept_counts():
    steps = [
        step(1, {"a": {"sparsity": 0.1, "output_error": 0.5}}),
        step(2, {"a": {"sparsity": 0.2}}),
        step(3, {"a": {"sparsity": 0.9}}, kept=0.0),
        step(4, {"a": {"bits": 4, "bytes_after": 100, "error_after": 0.25}}),
    ]
    assert layers_of(steps) == {"a": {"sparsity": 0.2, "error": 0.25, "bits": 4, "bytes": 100}}


def test_a_map_has_a_row_a_block_and_a_column_a_kind_and_names_what_has_no_block():
    layers = {
        "m.0.q": {"sparsity": 0.5},
        "m.1.q": {"sparsity": 1.0},
        "m.1.k": {"sparsity": 0.0},
        "head": {"sparsity": 1},
    }
    (found,) = heat_maps(layers)
    assert (found.measure, found.kinds) == ("sparsity", ("q", "k"))
    levels = [(block, [(tile.name, tile.level) for tile in tiles]) for block, tiles in found.rows]
    assert levels == [("m.0", [("m.0.q", 5), ("", 0)]), ("m.1", [("m.1.q", LEVELS), ("m.1.k", 0)])]
    assert [tile.name for tile in found.others] == ["head"]


def test_errors_are_coloured_by_their_logarithm():
    layers = {f"m.{index}.q": {"error": 10.0**-index} for index in range(3)}
    (found,) = heat_maps(layers)
    assert [tiles[0].level for _, tiles in found.rows] == [10, 5, 0]


def test_what_has_no_room_is_counted():
    layers = {f"m.{index}.q": {"bits": 4} for index in range(100)} | {f"n{index}": {"bits": 4} for index in range(70)}
    (found,) = heat_maps(layers)
    assert (len(found.rows), len(found.others), found.left_out) == (64, 64, 42)
