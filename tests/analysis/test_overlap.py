"""Row spaces before and after a stage: by hand, undefined where they must be, and plain enough for JSON."""

import json

import pytest
import torch
from torch import nn

from rcc.analysis.overlap import overlap, row_spaces, summarise
from rcc.layers.form import Form
from rcc.layers.units import find_units

EYE = torch.eye(8)


def test_only_units_with_a_low_rank_part_have_a_row_space():
    module = nn.ModuleDict({"dense": nn.Linear(8, 6), "pair": nn.Linear(8, 6)})
    right = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    right[2] = right[0] - right[1]
    next(unit for unit in find_units(module) if unit.name == "pair").write(Form(left=torch.ones(6, 3), right=right))
    spaces = row_spaces(find_units(module))
    assert {name: space.shape for name, space in spaces.items()} == {"pair": (2, 8)}
    space = spaces["pair"]
    assert space.dtype == torch.float32
    assert not space.requires_grad
    torch.testing.assert_close(space @ space.T, torch.eye(2))
    torch.testing.assert_close(right @ space.T @ space, right, rtol=0, atol=1e-5)


def test_known_spaces_give_known_numbers():
    before = {"same": EYE[:2], "half": EYE[:2], "none": EYE[:2]}
    after = {"same": EYE[:2].flip(0), "half": EYE[1:3], "none": EYE[2:4]}
    found = overlap(before, after, chosen_before=["same", "half", "none", "elsewhere"])
    assert [found["layers"][name]["overlap"] for name in ("same", "half", "none")] == [1.0, 0.5, 0.0]
    assert {layer["baseline"] for layer in found["layers"].values()} == {0.25}
    assert found["layers"]["half"]["excess"] == pytest.approx(1 / 3)
    distances = [found["layers"][name]["distance"] for name in ("same", "half", "none")]
    assert distances == pytest.approx([0.0, 2**-0.5, 1.0])
    assert (found["mean_overlap"], found["max_overlap"], found["mean_baseline"]) == (0.5, 1.0, 0.25)
    assert found["critical"] == ["same"]


def test_an_overlap_that_width_forces_is_not_critical():
    # Seven of eight dimensions share at least six: an overlap of 6/7, a little below the random 7/8.
    found = overlap({"wide": EYE[:7]}, {"wide": EYE[1:]}, chosen_before=["wide"])
    assert found["layers"]["wide"]["overlap"] == pytest.approx(6 / 7)
    assert found["layers"]["wide"]["excess"] < 0
    assert found["critical"] == []


def test_a_space_that_no_other_stage_chose_is_never_critical():
    found = overlap({"refitted": EYE[:2]}, {"refitted": EYE[:2].flip(0)})
    assert found["layers"]["refitted"]["excess"] == 1.0
    assert found["critical"] == []


def test_what_is_undefined_is_none_with_its_reason():
    found = overlap({"lost": EYE[:2], "cut": EYE[:3]}, {"made": EYE[:2], "cut": EYE[:2]})
    layers = found["layers"]
    assert (layers["lost"]["overlap"], layers["lost"]["reason"]) == (None, "no low-rank part after the stage")
    assert (layers["made"]["overlap"], layers["made"]["reason"]) == (None, "no low-rank part before the stage")
    assert (layers["lost"]["widths"], layers["made"]["widths"]) == ([2, 0], [0, 2])
    assert (layers["cut"]["overlap"], layers["cut"]["distance"]) == (1.0, None)
    assert "widths 2 and 3 differ" in layers["cut"]["reason"]
    assert found["mean_distance"] is None
    assert found["mean_overlap"] == 1.0


def test_a_layer_that_was_left_as_it_was_is_not_compared_with_itself():
    found = overlap({"left": EYE[:2], "cut": EYE[:3]}, {"left": EYE[:2].clone(), "cut": EYE[:2]})
    assert list(found["layers"]) == ["cut"]


def test_nothing_to_compare_is_no_error():
    found = overlap({}, {})
    assert found["layers"] == {}
    assert (found["mean_overlap"], found["max_overlap"], found["critical"]) == (None, None, [])


def test_the_result_is_json_without_nan():
    found = overlap({"a": EYE, "b": EYE[:2], "c": EYE[:0]}, {"a": EYE, "b": EYE[:3], "c": EYE[:1], "d": EYE})
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_summary_takes_the_means_over_all_layers_of_all_steps():
    first = overlap({"a": EYE[:2], "b": EYE[:2]}, {"a": EYE[:2].flip(0), "b": EYE[1:3]}, chosen_before=["a", "b"])
    second = overlap({"a": EYE[:2]}, {"a": EYE[2:4]})
    found = summarise({"nullu": first, "dare": {}, "nullu_2": second})
    assert (found["mean_overlap"], found["max_overlap"]) == (0.5, 1.0)
    assert found["critical"] == ["nullu: a"]
    assert summarise({})["mean_overlap"] is None
