"""Which layers the form cannot hold, why, and what belongs to no layer at all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, weight_norm
from transformers.pytorch_utils import Conv1D

from rcc.layers.attention import open_attention
from rcc.layers.batch_norm import make_identity_
from rcc.layers.obstacles import is_computed, lone_matrices
from rcc.layers.own_padding import RECIPE
from rcc.layers.units import find_units
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import StageContext
from rcc.stages.dare import DARECompressor


def reasons(model: nn.Module) -> dict[str, str]:
    return {unit.name: unit.obstacle for unit in find_units(model)}


def alone(model: nn.Module) -> dict[str, tuple[int, str]]:
    modules = [module for unit in find_units(model) for module in unit.modules()]
    return {one.name: (one.values, one.reason) for one in lone_matrices(model, modules)}


def test_a_subclass_is_taken_only_if_it_computes_as_torch_does() -> None:
    class Named(nn.Linear):
        pass

    class Standardised(nn.Conv2d):
        def _conv_forward(self, input: Tensor, weight: Tensor, bias: Any) -> Tensor:
            return super()._conv_forward(input, weight - weight.mean(), bias)

    class Scaled(Conv1D):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    class Doubled(nn.ConvTranspose1d):
        def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
            return 2 * super().forward(input, output_size)

    model = nn.ModuleList([Named(2, 2), Standardised(2, 2, 1), Scaled(2, 2), Doubled(2, 2, 1)])
    own = "computes in a way of its own, which the form would replace"
    standardised = f"Standardised {own}: {RECIPE}"
    assert reasons(model) == {"0": "", "1": standardised, "2": f"Scaled {own}", "3": f"Doubled {own}"}


def test_weights_and_biases_that_something_computes_are_told() -> None:
    masked = nn.Linear(2, 2)
    prune.l1_unstructured(masked, "weight", 0.5)
    for module in (
        masked,
        weight_norm(nn.Linear(2, 2)),
        parametrizations.weight_norm(nn.Linear(2, 2)),
        parametrizations.spectral_norm(nn.Conv1d(2, 2, 1)),
        parametrizations.weight_norm(nn.Linear(2, 2), "bias", dim=None),
    ):
        assert is_computed(module)
    assert not is_computed(nn.Linear(2, 2))
    assert not is_computed(nn.Linear(2, 2, bias=False))


def test_a_parametrisation_that_holds_the_form_is_no_obstacle() -> None:
    class Holding(nn.Module):
        holds_form = True

        def forward(self, latent: Tensor) -> Tensor:
            return latent

    model = nn.Sequential(nn.Linear(3, 2))
    nn.utils.parametrize.register_parametrization(model[0], "weight", Holding())
    assert reasons(model) == {"0": ""}
    assert alone(model) == {}
    assert find_units(model)[0].matrix_values == 6


def test_matrices_of_no_unit_come_by_layer_or_by_name_with_their_values() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(3, 4))
            self.vector = nn.Parameter(torch.zeros(5))
            self.lstm = nn.LSTM(2, 3)
            self.cell = nn.GRUCell(2, 3)
            self.both = nn.Bilinear(2, 3, 4)
            self.bag = nn.EmbeddingBag(5, 2)
            self.attention = nn.MultiheadAttention(4, 2)
            self.linear = nn.Linear(4, 4)

    model = Model()
    found = alone(model)
    assert {name: values for name, (values, _) in found.items()} == {
        "table": 12, "lstm": 4 * 3 * (2 + 3), "cell": 3 * 3 * (2 + 3), "both": 24, "bag": 10, "attention": 48,
    }  # fmt: skip
    assert "recurrent" in found["lstm"][1]
    assert "recurrent" in found["cell"][1]
    assert found["attention"][1] == "nn.MultiheadAttention reads its weight and never calls it"
    assert found["table"][1] == "a parameter of Model itself, which rcc does not know"
    open_attention(model)
    assert "attention" not in alone(model)


def test_a_parameter_that_two_modules_share_comes_once() -> None:
    model = nn.ModuleList([nn.Bilinear(2, 2, 2), nn.Bilinear(2, 2, 2)])
    model[1].weight = model[0].weight
    assert {name: values for name, (values, _) in alone(model).items()} == {"0": 8}


def test_a_root_that_is_recurrent_is_named_by_its_class() -> None:
    assert list(alone(nn.GRU(2, 3))) == ["GRU"]


def test_a_folded_norm_is_left_alone_by_name_and_any_other_is_not() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.LayerNorm(4))
    make_identity_(model[1])
    assert reasons(model) == {
        "0": "", "1": "it is folded into the layer before it: its weight is a constant", "2": "", "3": "",
    }  # fmt: skip
    before = {name: tensor.clone() for name, tensor in model[1].state_dict().items()}
    report = DARECompressor(target_sparsity=0.5, roles=["norm"]).apply(ModuleAdapter(model), StageContext())
    assert sorted(report.touched) == ["2", "3"]
    assert ("1", reasons(model)["1"]) in [(skipped.name, skipped.reason) for skipped in report.skipped]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model[1].state_dict().items())
    assert reasons(model.to("meta"))["1"] == ""
