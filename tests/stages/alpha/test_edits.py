"""The specification's methods on one layer: importance, task vectors, their interpolation, and alpha scaling."""

import pytest
import torch
from torch import nn
from toys.models import SmallModel

from rcc.errors import UserError
from rcc.ops.scale import to_scale
from rcc.stages.alpha.editor import AlphaEditor

WEIGHT = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
GRADIENT = torch.tensor([[0.0, 2.0], [3.0, 4.0]])


def with_gradient():
    weight = WEIGHT.clone().requires_grad_()
    weight.grad = GRADIENT.clone()
    return weight


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("magnitude", [1.0, 0.2]),  # 5, 1
        ("gradient", [0.4, 1.0]),  # 2, 5
        ("fisher", [0.16, 1.0]),  # 4, 25
        ("taylor", [1.0, 0.5]),  # |4 · 2| = 8, |1 · 4| = 4
    ],
)
def test_importance_by_hand(metric, expected):
    editor = AlphaEditor(importance_metric=metric)
    found = editor.compute_importance_scores("layer", with_gradient())
    assert found.tolist() == pytest.approx(expected)
    assert editor.importance_scores["layer"] is found


def test_taylor_takes_activations_with_a_gradient_where_they_are_given():
    activations = torch.tensor([[1.0, 2.0]], requires_grad=True)
    (activations * torch.tensor([[4.0, 1.0]])).sum().backward()
    found = AlphaEditor(importance_metric="taylor").compute_importance_scores("layer", WEIGHT, activations)
    assert found.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("metric", ["gradient", "fisher", "taylor"])
def test_without_any_gradient_importance_is_the_magnitude(metric):
    found = AlphaEditor(importance_metric=metric).compute_importance_scores("layer", WEIGHT)
    assert found.tolist() == pytest.approx([1.0, 0.2])


def test_a_layer_of_zeros_has_no_importance_instead_of_nan():
    assert AlphaEditor().compute_importance_scores("layer", torch.zeros(2, 3)).tolist() == [0.0, 0.0]


def test_a_task_vector_is_the_plain_difference():
    editor = AlphaEditor()
    found = editor.extract_task_vector("layer", WEIGHT, WEIGHT + 0.5, "birds")
    assert found.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert editor.task_vectors["birds"]["layer"] is found


def test_a_task_vector_is_weighted_by_importance_only_if_asked():
    editor = AlphaEditor(SmallModel(), weight_by_importance=True)
    editor.compute_importance_scores("layer", WEIGHT)
    assert editor.extract_task_vector("layer", WEIGHT, WEIGHT + 1).tolist() == [[1.0, 1.0], [pytest.approx(0.2)] * 2]


def test_task_vectors_of_another_shape_are_refused():
    with pytest.raises(UserError, match=r"'birds': the weight of layer has shape \(3, 2\)"):
        AlphaEditor().extract_task_vector("layer", WEIGHT, torch.ones(3, 2), "birds")


def test_interpolation_is_the_weighted_sum_of_the_tasks():
    editor = AlphaEditor()
    editor.extract_task_vector("layer", WEIGHT, WEIGHT + 1, "birds")
    editor.extract_task_vector("layer", WEIGHT, WEIGHT - 2, "cars")
    found = editor.interpolate_task_vectors({"birds": 0.75, "cars": 0.25})
    assert found["layer"].tolist() == [[0.25, 0.25], [0.25, 0.25]]


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({"birds": 0.7}, "sum to 0.7; they must sum to 1"),
        ({"fish": 1.0}, r"name \['fish'\]; the tasks are \['birds'\]"),
    ],
)
def test_weights_that_do_not_sum_to_one_or_name_other_tasks_are_refused(weights, text):
    editor = AlphaEditor()
    editor.extract_task_vector("layer", WEIGHT, WEIGHT + 1, "birds")
    with pytest.raises(UserError, match=text):
        editor.interpolate_task_vectors(weights)


def test_a_layer_that_lacks_a_task_is_named():
    editor = AlphaEditor()
    editor.extract_task_vector("first", WEIGHT, WEIGHT, "birds")
    editor.extract_task_vector("second", WEIGHT, WEIGHT, "cars")
    with pytest.raises(UserError, match="first has no task vector of cars"):
        editor.interpolate_task_vectors({"birds": 0.5, "cars": 0.5})


def test_scaling_multiplies_channels_and_adds_the_task_vector_where_the_weight_is_not_zero():
    editor = AlphaEditor(SmallModel(), task_strength=0.5)
    editor.alpha_parameters["layer"] = nn.Parameter(torch.tensor([1.0, -1.0]))
    editor.extract_task_vector("layer", WEIGHT, WEIGHT + 4)
    editor.interpolate_task_vectors({"task": 1.0})
    high, low = to_scale(torch.tensor([1.0, -1.0])).tolist()
    found = editor.apply_alpha_scaling("layer", WEIGHT)
    torch.testing.assert_close(found, torch.tensor([[3 * high + 2, 4 * high + 2], [0.0, low + 2]]))


def test_an_unknown_layer_is_not_scaled():
    assert torch.equal(AlphaEditor().apply_alpha_scaling("layer", WEIGHT), WEIGHT)


def test_the_kernel_of_a_convolution_is_scaled_along_its_outputs():
    editor = AlphaEditor()
    editor.alpha_parameters["conv"] = nn.Parameter(torch.tensor([0.0, 3.0]))
    found = editor.apply_alpha_scaling("conv", torch.ones(2, 3, 2, 2))
    assert found[0].eq(1).all()
    assert float(found[1, 2, 1, 1].detach()) == pytest.approx(1.9051483)
