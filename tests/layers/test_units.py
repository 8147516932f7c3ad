from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rcc.layers.form import Form
from rcc.layers.modules import FormConv, FormEmbedding, FormLinear
from rcc.layers.units import Unit, find_units, non_finite


class Model(nn.Module):
    """One of each kind; `one` and `two` share a weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(11, 6, padding_idx=0)
        self.wave = nn.Conv1d(6, 6, 3, padding=1)
        self.image = nn.Conv2d(2, 4, (3, 2), bias=False)
        self.norm = nn.LayerNorm((2, 3))
        self.plain_norm = nn.LayerNorm(6, elementwise_affine=False)
        self.batch_norm = nn.BatchNorm1d(6)
        self.rms = nn.RMSNorm(6)
        self.linear = nn.Linear(6, 5)
        self.one = nn.Linear(6, 6, bias=False)
        self.two = nn.Linear(6, 6, bias=False)
        self.two.weight = self.one.weight


def unit_of(model: nn.Module, name: str) -> Unit:
    return next(unit for unit in find_units(model) if unit.name == name)


def low_rank(unit: Unit, rank: int = 2, **more: Tensor) -> Form:
    outputs, inputs = unit.shape
    return Form(left=torch.randn(outputs, rank), right=torch.randn(rank, inputs), **more)


def test_every_kind_is_found_in_module_order_and_a_shared_weight_once() -> None:
    found = [(unit.name, unit.kind, unit.shape, unit.tied) for unit in find_units(Model())]
    assert found == [
        ("embedding", "embedding", (11, 6), ()),
        ("wave", "conv", (6, 18), ()),
        ("image", "conv", (4, 12), ()),
        ("norm", "norm", (1, 6), ()),
        ("batch_norm", "norm", (1, 6), ()),
        ("rms", "norm", (1, 6), ()),
        ("linear", "linear", (5, 6), ()),
        ("one", "linear", (6, 6), ("two",)),
    ]


def test_roles_and_towers_are_the_callers() -> None:
    model = nn.ModuleDict({"vision": nn.ModuleDict({"head": nn.Linear(2, 2)})})
    [default] = find_units(model)
    assert (default.role, default.tower) == ("linear", "vision")
    [named] = find_units(model, lambda name, kind: (f"{kind}!", name.split(".")[-1]))
    assert (named.role, named.tower) == ("linear!", "head")


def test_the_same_units_are_found_after_their_structure_changed() -> None:
    model = Model()
    before = [(unit.name, unit.kind, unit.shape, unit.tied) for unit in find_units(model)]
    for unit in find_units(model):
        if unit.factorable:
            unit.write(low_rank(unit))
    assert [(unit.name, unit.kind, unit.shape, unit.tied) for unit in find_units(model)] == before


def test_reading_shares_memory_and_flattens_convolutions() -> None:
    model = Model()
    for unit in find_units(model):
        form = unit.read()
        assert form.shape == unit.shape
        assert form.sparse is not None
        assert form.sparse.data_ptr() == unit.module.weight.data_ptr()
        assert not form.sparse.requires_grad
    assert unit_of(model, "norm").read().bias is None
    assert unit_of(model, "linear").read().bias is not None


@pytest.mark.parametrize(
    ("name", "kind", "batch"),
    [
        ("linear", FormLinear, torch.randn(3, 6)),
        ("wave", FormConv, torch.randn(2, 6, 9)),
        ("image", FormConv, torch.randn(2, 2, 7, 7)),
        ("embedding", FormEmbedding, torch.tensor([[0, 10, 4]])),
    ],
)
def test_to_the_form_and_back_gives_the_same_outputs(name: str, kind: type, batch: Tensor) -> None:
    model = Model().eval()
    unit = unit_of(model, name)
    dense, expected = unit.read(), unit.module(batch)
    unit.write(low_rank(unit, bias=dense.bias) if dense.bias is not None else low_rank(unit))
    assert type(unit.module) is kind
    assert not unit.module.training
    assert not torch.allclose(unit.module(batch), expected)
    unit.write(dense)
    assert type(unit.module) in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
    assert not unit.module.training
    assert torch.equal(unit.module(batch), expected)


def test_going_back_keeps_what_a_plain_module_had() -> None:
    model = Model()
    for name in ("embedding", "image"):
        unit = unit_of(model, name)
        before, dense = repr(unit.module), unit.read()
        unit.write(low_rank(unit))
        unit.write(dense)
        assert repr(unit.module) == before


def test_writing_a_plain_form_keeps_the_module_and_its_hooks() -> None:
    model = Model()
    unit = unit_of(model, "linear")
    module = unit.module
    form = unit.read()
    assert form.sparse is not None
    unit.write(Form(sparse=form.sparse * 2, bias=form.bias))
    assert unit.module is module
    assert torch.equal(unit.read().sparse, form.sparse * 2)


@pytest.mark.parametrize("name", ["linear", "wave", "image", "embedding"])
def test_a_write_of_any_structure_keeps_the_object_its_hooks_and_its_attributes(name: str) -> None:
    model = Model()
    unit = unit_of(model, name)
    module, dense = unit.module, unit.read()
    kept_elsewhere, calls = [module], []
    module.register_forward_hook(lambda _, given, output: calls.append("after") or output * 2)
    module.register_forward_pre_hook(lambda _, given: calls.append("before"))
    module.tag = "mine"
    batch = {"linear": torch.randn(3, 6), "wave": torch.randn(2, 6, 9), "image": torch.randn(2, 2, 7, 7)}
    given = batch.get(name, torch.tensor([[1, 2]]))
    expected = module(given)
    for form in (low_rank(unit, bias=dense.bias) if dense.bias is not None else low_rank(unit), dense):
        calls.clear()
        unit.write(form)
        assert kept_elsewhere[0] is unit.module
        output = kept_elsewhere[0](given)
        assert calls == ["before", "after"]
        assert unit.module.tag == "mine"
    assert torch.equal(output, expected)


def test_an_option_of_embeddings_named_like_a_part_of_the_form_comes_back() -> None:
    model = nn.Sequential(nn.Embedding(5, 3, sparse=True))
    [unit] = find_units(model)
    dense = unit.read()
    unit.write(low_rank(unit, rank=1))
    assert unit.read().sparse is None
    unit.write(dense)
    assert model[0].sparse is True


def test_a_layer_with_an_attribute_that_the_form_needs_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    model[0].scale = 2.0
    assert obstacles(model) == {"0": "it has an attribute 'scale' of its own, a name that the form needs"}


def test_a_bias_can_be_added_and_taken_away() -> None:
    model = Model()
    unit = unit_of(model, "image")
    weight = unit.read().sparse
    unit.write(Form(sparse=weight, bias=torch.arange(4.0)))
    batch = torch.zeros(1, 2, 3, 2)
    assert unit.module(batch).flatten().tolist() == [0.0, 1.0, 2.0, 3.0]
    unit.write(Form(sparse=weight))
    assert unit.module.bias is None


def test_tied_weights_change_together_and_stay_one_tensor() -> None:
    model = Model()
    unit = unit_of(model, "one")
    unit.write(Form(sparse=torch.eye(6)))
    assert model.two.weight is model.one.weight
    unit.write(low_rank(unit))
    assert model.two is not model.one
    assert model.two.left is model.one.left
    assert sum(parameter.numel() for parameter in nn.ModuleList([model.one, model.two]).parameters()) == 24


def test_a_norm_is_written_in_its_own_shape_with_the_scale_folded_in() -> None:
    model = Model()
    unit = unit_of(model, "norm")
    bias = model.norm.bias
    unit.write(Form(sparse=torch.arange(6.0)[None], scale=torch.tensor([2.0])))
    assert model.norm.weight.tolist() == [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]
    assert model.norm.bias is bias
    assert model.norm(torch.randn(4, 2, 3)).shape == (4, 2, 3)


def test_what_was_frozen_stays_frozen() -> None:
    model = Model().requires_grad_(False)
    for unit in find_units(model):
        unit.write(low_rank(unit) if unit.factorable else unit.read())
        unit.write(Form(sparse=torch.zeros(unit.shape)))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    thawed = Model()
    unit_of(thawed, "linear").write(low_rank(unit_of(thawed, "linear")))
    assert all(parameter.requires_grad for parameter in thawed.parameters())


@pytest.mark.parametrize(
    ("name", "form", "reason"),
    [
        ("linear", Form(sparse=torch.zeros(6, 5)), "does not fit"),
        ("norm", Form(left=torch.zeros(1, 1), right=torch.zeros(1, 6)), "cannot hold a low-rank pair"),
        ("rms", Form(sparse=torch.zeros(1, 6), bias=torch.zeros(1)), "has no bias"),
        ("embedding", Form(sparse=torch.zeros(11, 6), bias=torch.zeros(11)), "has no bias"),
    ],
)
def test_forms_a_unit_cannot_hold_are_refused_by_name(name: str, form: Form, reason: str) -> None:
    unit = unit_of(Model(), name)
    with pytest.raises(ValueError, match=f"{name}.*{reason}"):
        unit.write(form)


def test_a_grouped_convolution_is_a_unit_without_low_rank_part() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4))
    [unit] = find_units(model)
    assert (unit.shape, unit.factorable) == ((4, 9), False)
    unit.write(Form(sparse=torch.ones(4, 9), scale=torch.ones(4)))
    assert isinstance(unit.module, FormConv)
    assert not unit.factorable


def obstacles(model: nn.Module) -> dict[str, str]:
    return {unit.name: unit.obstacle for unit in find_units(model) if unit.obstacle}


def test_an_embedding_tied_to_a_head_is_one_unit_with_an_obstacle() -> None:
    model = nn.ModuleDict({"words": nn.Embedding(7, 3), "head": nn.Linear(3, 7, bias=False)})
    model["head"].weight = model["words"].weight
    assert obstacles(model) == {"words": "its weight is shared with head"}
    assert len(find_units(model)) == 1


def test_a_tied_linear_with_a_bias_of_its_own_is_left_alone() -> None:
    model = nn.ModuleDict({"one": nn.Linear(3, 3, bias=False), "two": nn.Linear(3, 3)})
    model["two"].weight = model["one"].weight
    assert obstacles(model) == {"one": "its weight is shared with two"}


def test_a_weight_shared_with_a_plain_parameter_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False))
    model.kernel = model[0].weight
    assert obstacles(model) == {"0": "its weight is shared with the model itself"}


def test_one_module_under_two_names_is_replaced_under_both() -> None:
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    [unit] = find_units(model)
    assert (unit.name, unit.tied, unit.obstacle) == ("0", ("2",), "")
    unit.write(low_rank(unit, rank=1, bias=shared.bias.detach()))
    assert model[0] is model[2]
    assert isinstance(model[0], FormLinear)


def test_weights_the_form_cannot_stand_for_are_found_with_a_reason() -> None:
    model = nn.ModuleDict(
        {
            "circular": nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
            "rewriting": nn.Embedding(4, 2, max_norm=1.0),
            "computed": nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
            "also_computed": nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
        }
    )
    assert obstacles(model) == {
        "circular": "padding_mode 'circular' cannot be held in the form",
        "rewriting": "an embedding with max_norm rewrites its own rows",
        "computed": "its weight is computed by a parametrisation",
        "also_computed": "its weight is computed by a parametrisation",
    }


def test_non_finite_names_the_unit_and_the_part() -> None:
    model = Model()
    unit = unit_of(model, "linear")
    unit.write(low_rank(unit, scale=torch.tensor([1.0, 1.0, float("nan"), 1.0, 1.0])))
    model.image.weight.data[0, 0, 0, 0] = float("inf")
    assert [(found.name, part) for found, part in non_finite(find_units(model))] == [
        ("image", "sparse"),
        ("linear", "scale"),
    ]


def test_a_layer_that_computes_in_its_own_way_is_left_alone_with_the_reason() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    units = {unit.name: unit for unit in find_units(nn.Sequential(Doubled(3, 2), nn.Linear(2, 2)))}
    assert "Doubled computes in a way of its own" in units["0"].obstacle
    assert units["1"].obstacle == ""


@pytest.mark.parametrize(("name", "kind"), [("linear", FormLinear), ("image", FormConv), ("embedding", FormEmbedding)])
def test_a_quantised_matrix_lives_in_the_forms_module_and_a_free_one_in_a_plain_one(name: str, kind: type) -> None:
    model = Model()
    unit = unit_of(model, name)
    plain, form = type(unit.module), unit.read()
    unit.write(replace(form, sparse=torch.full(unit.shape, 3.0), sparse_step=torch.ones(unit.shape[0])))
    weight = unit.module.weight.detach().clone()
    assert type(unit.module) is kind
    assert torch.equal(unit.module.weight, weight)
    assert torch.equal(unit.read().sparse_step, torch.ones(unit.shape[0]))
    unit.write(replace(unit.read(), sparse_step=None))
    assert type(unit.module) is plain
    assert torch.equal(unit.module.weight, weight)


def test_tied_units_share_their_steps() -> None:
    model = Model()
    unit = unit_of(model, "one")
    unit.write(Form(sparse=torch.full((6, 6), 2.0), sparse_step=torch.ones(6)))
    assert model.two.sparse is model.one.sparse
    assert model.two.sparse_step is model.one.sparse_step
    unit.write(Form(sparse=torch.eye(6)))
    assert type(model.two) is nn.Linear
    assert model.two.weight is model.one.weight


def test_a_norm_cannot_be_quantised() -> None:
    unit = unit_of(Model(), "norm")
    with pytest.raises(ValueError, match="the form of a norm has no quantisation steps"):
        unit.write(replace(unit.read(), sparse_step=torch.ones(1)))


def test_steps_are_let_go_where_a_write_takes_values_off_their_grid() -> None:
    unit = unit_of(Model(), "linear")
    left, right = torch.randint(-7, 8, (5, 2)).float(), torch.randint(-7, 8, (2, 6)).float()
    unit.write(Form(left=left, right=right, left_step=torch.ones(5), right_step=torch.ones(2)))
    unit.write(replace(unit.read(), left=left * 1.1))
    assert [name for name, _ in unit.read().steps()] == ["right"]
    sparse = unit_of(Model(), "one")
    sparse.write(Form(sparse=torch.full((6, 6), 4.0), sparse_step=torch.ones(6)))
    pruned = torch.full((6, 6), 4.0).triu()
    sparse.write(replace(sparse.read(), sparse=pruned))
    assert sparse.read().quantised
    sparse.write(replace(sparse.read(), sparse=pruned + 0.5))
    assert not sparse.read().quantised
    assert type(sparse.module) is nn.Linear


def test_steps_without_values_stay_on_the_meta_device() -> None:
    form = Form(sparse=torch.empty(6, 6, device="meta"), sparse_step=torch.empty(6, device="meta"))
    assert form.without_stale_steps() is form


def test_what_multi_head_attention_reads_without_calling_it_is_left_alone_with_the_reason() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    obstacles = {unit.name: unit.obstacle for unit in find_units(layer) if unit.kind == "linear"}
    assert obstacles == {
        "self_attn.out_proj": "nn.MultiheadAttention reads its weight and never calls it",
        "linear1": "",
        "linear2": "",
    }
