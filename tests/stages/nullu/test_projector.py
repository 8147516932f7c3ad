"""Nullu on a whole model: what is factorised, what is left and why, and that the model still computes the same."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from toys.models import SmallModel, batches

from rcc.errors import UserError, WorkError
from rcc.layers.form import Form
from rcc.layers.modules import FormConv, FormLinear
from rcc.stages.base import StageContext, UnitPlan, bytes_of
from rcc.stages.nullu.projector import NulluProjector


@pytest.fixture
def model():
    return SmallModel()


def low_rank(unit, rank, seed=3):
    """Make the unit's weight one of that rank exactly, in place."""
    generator = torch.Generator().manual_seed(seed)
    m, n = unit.shape
    weight = torch.randn(m, rank, generator=generator) @ torch.randn(rank, n, generator=generator)
    unit.write(Form(sparse=weight / n, bias=unit.read().bias))
    return weight / n


def test_a_model_of_low_rank_weights_computes_the_same_from_its_factors(model):
    for name in ("conv", "hidden", "head"):
        low_rank(model.unit(name), 2)
    model.module.eval()
    batch = batches(1)[0]
    before = model.outputs(batch)["features"]
    report = NulluProjector(0.5, 1 - 1e-9).apply(model, StageContext())
    assert set(report.touched) == {"conv", "hidden", "head"}
    assert {facts["rank"] for facts in report.touched.values()} == {2}
    assert {facts["bound"] for facts in report.touched.values()} == {"energy"}
    assert isinstance(model.module.conv, FormConv)
    assert isinstance(model.module.hidden, FormLinear)
    torch.testing.assert_close(model.outputs(batch)["features"], before, rtol=1e-5, atol=1e-6)


def test_a_factorised_convolution_is_the_dense_one_with_the_composed_kernel(model):
    dense = copy.deepcopy(model.module.conv)
    report = NulluProjector(0.4, None, roles=["conv"]).apply(model, StageContext())
    assert report.touched["conv"]["rank"] == 4  # floor(0.6 · 12 · 27 / 39)
    left, right = model.unit("conv").read().left, model.unit("conv").read().right
    u, s, v = torch.linalg.svd(dense.weight.detach().double().flatten(1), full_matrices=False)
    expected = ((u[:, :4] * s[:4]) @ v[:4]).float()
    torch.testing.assert_close(left @ right, expected, rtol=0, atol=1e-6)
    dense.weight.data = expected.view_as(dense.weight)
    images = batches(1)[0]["images"]
    torch.testing.assert_close(model.module.conv(images), dense(images), rtol=0, atol=1e-5)


def test_a_one_dimensional_convolution_is_flattened_too():
    model = SmallModel()
    model.module = nn.Sequential(nn.Conv1d(8, 16, 5, stride=2))
    dense = copy.deepcopy(model.module[0])
    NulluProjector(0.3, None).apply(model, StageContext())
    left, right = model.unit("0").read().left, model.unit("0").read().right
    dense.weight.data = (left @ right).detach().view_as(dense.weight)
    signal = torch.randn(2, 8, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.module(signal), dense(signal), rtol=0, atol=1e-5)


def test_v_has_orthonormal_rows_and_both_factors_are_contiguous_in_the_weights_dtype(model):
    model.module.to(torch.bfloat16)
    NulluProjector(0.5, None, factors="orthonormal", include=["hidden"]).apply(model, StageContext())
    form = model.unit("hidden").read()
    assert form.left.dtype == form.right.dtype == torch.bfloat16
    assert form.left.is_contiguous()
    assert form.right.is_contiguous()
    gram = form.right.double() @ form.right.double().T
    torch.testing.assert_close(gram, torch.eye(form.rank, dtype=torch.float64), rtol=0, atol=0.02)


def test_the_bytes_after_are_those_the_artifact_would_store(model):
    report = NulluProjector(0.5, None).apply(model, StageContext(storage=torch.float16))
    for name, facts in report.touched.items():
        unit = model.unit(name)
        assert facts["bytes_after"] == bytes_of(unit, 2) == 2 * facts["rank"] * sum(unit.shape)
        assert facts["bytes_before"] == 2 * unit.numel
    assert report.facts["bytes_after"] == sum(bytes_of(model.unit(name), 2) for name in ("conv", "hidden", "head"))


def test_a_layer_whose_factors_would_not_be_smaller_is_left_and_both_sizes_are_said(model):
    form = model.unit("hidden").read()
    weight = form.sparse.clone()
    weight[:, 1:] = 0  # 17 of 192 values with the next: at most 17 gaps and 17 · 4 bytes
    weight[0, 1] = 1.0  # and no rank of one holds it
    model.unit("hidden").write(Form(sparse=weight, bias=form.bias))
    report = NulluProjector(0.5, None).apply(model, StageContext(storage=torch.float32))
    skipped = {entry.name: entry.reason for entry in report.skipped}
    assert "not be smaller" in skipped["hidden"]
    assert "85 bytes where" not in skipped["hidden"]
    assert "where 85 are stored" in skipped["hidden"]
    assert type(model.module.hidden) is nn.Linear
    assert "hidden" not in report.touched


def test_a_layer_that_needs_its_full_rank_is_left_dense(model):
    before = model.module.head.weight
    report = NulluProjector(None, 1.0, include=["head"]).apply(model, StageContext())
    assert report.touched == {}
    assert model.module.head.weight is before
    assert [entry.name for entry in report.skipped if "not be smaller" in entry.reason] == ["head"]


def test_a_layer_of_zeros_is_left_with_its_reason(model):
    model.unit("hidden").write(Form(sparse=torch.zeros(16, 12)))
    report = NulluProjector().apply(model, StageContext())
    assert ("hidden", "every value is zero: there is nothing to factorise") in [
        (entry.name, entry.reason) for entry in report.skipped
    ]


def test_a_norm_asked_for_by_name_is_left_with_its_reason(model):
    report = NulluProjector(include=["norm", "head"]).apply(model, StageContext())
    assert ("norm", "a norm holds no low-rank pair") in [(entry.name, entry.reason) for entry in report.skipped]


def test_a_second_pass_works_on_the_factors_and_lowers_the_rank_to_numpys(model):
    NulluProjector(0.2, None, include=["hidden"]).apply(model, StageContext())
    once = model.unit("hidden").read().dense().detach().double()
    report = NulluProjector(0.6, None, include=["hidden"]).apply(model, StageContext())
    rank = report.touched["hidden"]["rank"]
    assert rank == 2  # floor(0.4 · 16 · 12 / 28)
    u, s, v = torch.linalg.svd(once, full_matrices=False)
    expected = (u[:, :rank] * s[:rank]) @ v[:rank]
    torch.testing.assert_close(model.unit("hidden").read().dense().double(), expected, rtol=0, atol=1e-6)


def test_a_second_pass_at_the_same_strength_changes_nothing(model):
    stage = NulluProjector(0.5, None, include=["hidden"])
    stage.apply(model, StageContext())
    before = model.unit("hidden").read()
    report = stage.apply(model, StageContext())
    assert report.touched == {}
    assert model.unit("hidden").read().left is before.left


def test_sparse_and_low_rank_parts_are_composed_before_they_are_truncated(model):
    generator = torch.Generator().manual_seed(0)
    sparse = torch.randn(16, 12, generator=generator)
    left, right = torch.randn(16, 2, generator=generator), torch.randn(2, 12, generator=generator)
    model.unit("hidden").write(Form(sparse, left, right, scale=torch.linspace(0.5, 2, 16)))
    dense = model.unit("hidden").read().dense().detach().double()
    NulluProjector(0.5, None, include=["hidden"]).apply(model, StageContext())
    form = model.unit("hidden").read()
    assert (form.sparse, form.scale, form.rank) == (None, None, 3)
    u, s, v = torch.linalg.svd(dense, full_matrices=False)
    torch.testing.assert_close(form.dense().double(), (u[:, :3] * s[:3]) @ v[:3], rtol=0, atol=1e-5)


def test_applying_twice_gives_the_same_bits(model):
    other = SmallModel()
    for subject in (model, other):
        NulluProjector(0.5, 0.9).apply(subject, StageContext())
    ours, theirs = model.module.state_dict(), other.module.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_no_decomposition_is_held_after_apply_and_the_analysis_is_computed_when_asked(model):
    stage = NulluProjector(0.5, None)
    report = stage.apply(model, StageContext())
    assert (stage.decomposed_layers, stage.null_spaces) == ({}, {})
    assert stage.selected_ranks == {name: facts["rank"] for name, facts in report.touched.items()}
    assert stage.original_ranks == {"conv": 12, "hidden": 12, "head": 10}
    null_space = stage.project_to_null_space("hidden")
    weight = model.unit("hidden").read().dense().detach().double()
    assert null_space.shape == (12 - stage.selected_ranks["hidden"], 12)
    assert float((weight @ null_space.T).abs().max()) < 1e-6
    assert stage.reconstruct_weight("conv").shape == (12, 3, 3, 3)
    torch.testing.assert_close(stage.reconstruct_weight("conv").float(), model.module.conv.weight, rtol=0, atol=1e-6)


def test_a_weight_with_nan_is_reported_with_stage_layer_and_shape(model):
    model.module.hidden.weight.data[0, 0] = float("nan")
    with pytest.raises(WorkError, match=r"stage 'nullu' at layer hidden \(16, 12\): .*NaN"):
        NulluProjector().apply(model, StageContext())


def test_the_plan_predicts_the_share_and_the_bytes_that_apply_gives(model):
    stage = NulluProjector(0.5, None)
    chosen, _ = stage.choose(model)
    planned = {plan.name: plan for plan in stage.plan([UnitPlan.of(unit) for unit in chosen], 4)}
    stage.apply(model, StageContext(storage=torch.float32))
    for unit in chosen:
        assert planned[unit.name].nbytes(4) == bytes_of(unit, 4)
    assert planned["hidden"].note == "rank 3 of 12"


def test_the_plan_calls_the_rank_at_most_where_energy_may_lower_it(model):
    plans = [UnitPlan.of(unit) for unit in model.units()]
    notes = {plan.name: plan.note for plan in NulluProjector(0.5, 0.95).plan(plans, 4)}
    assert notes["hidden"] == "rank at most 3 of 12"
    assert notes["norm"] == "left as it is: holds no low-rank pair"
    by_energy = NulluProjector(None, 0.95).plan(plans, 4)
    assert [plan.matrices for plan in by_energy] == [plan.matrices for plan in plans]


def test_the_plan_leaves_what_would_not_get_smaller(model):
    sparse = UnitPlan("layer", "linear", "model", "linear", (100, 100), True, {"sparse": (10_000, 100)})
    (plan,) = NulluProjector(0.5, None).plan([sparse], 4)
    assert plan.matrices == sparse.matrices
    assert "20,000 bytes where 538 are stored" in plan.note


def test_another_strength_is_another_stage_with_the_same_options():
    stage = NulluProjector(0.5, 0.9, factors="balanced").labelled("nullu_2")
    softer = stage.at(0.25)
    assert (softer.strength, softer.energy_threshold, softer.factors, softer.label) == (
        0.25,
        0.9,
        "balanced",
        "nullu_2",
    )
    assert stage.strength == 0.5
    with pytest.raises(UserError, match="rank_reduction_ratio is null"):
        NulluProjector(None).at(0.5)
    with pytest.raises(UserError, match=r"1\.0"):
        stage.at(1.0)


def test_all_bad_options_are_reported_at_once():
    with pytest.raises(UserError) as caught:
        NulluProjector(
            1.5, 0.0, paired_features="nowhere.safetensors", paired_rank=0, precision="float8", factors="neither"
        )
    text = str(caught.value)
    for part in ("rank_reduction_ratio is 1.5", "energy_threshold is 0.0", "nowhere", "paired_rank is 0", "float8"):
        assert part in text
    assert len(caught.value.problems) == 6
    with pytest.raises(UserError, match="both null"):
        NulluProjector(None, None)


def paired(path, **tensors):
    save_file({key.replace("__", "."): tensor for key, tensor in tensors.items()}, path)
    return path


def features(n, out, seed):
    return torch.randn(n, out, generator=torch.Generator().manual_seed(seed))


def test_paired_features_take_their_directions_out_of_weight_and_bias(model, tmp_path):
    path = paired(
        tmp_path / "pairs.safetensors", hidden__positive=features(30, 16, 0), hidden__negative=features(30, 16, 1)
    )
    difference = (features(30, 16, 0) - features(30, 16, 1)).double()
    directions = torch.linalg.svd(difference, full_matrices=False)[2][:2]
    original = model.unit("hidden").read()
    weight, bias = original.sparse.double(), original.bias.double()
    stage = NulluProjector(None, 1.0, paired_features=path, paired_rank=2, include=["hidden"])
    report = stage.apply(model, StageContext())
    form = model.unit("hidden").read()
    identity = torch.eye(16, dtype=torch.float64)
    projection = identity - directions.T @ directions
    torch.testing.assert_close(form.dense().double(), projection @ weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(form.bias.double(), projection @ bias, rtol=0, atol=1e-6)
    assert report.touched["hidden"]["projected_out"] == 2
    outputs = model.module.hidden(features(5, 12, 4)).detach().double()
    assert float((outputs @ directions.T).abs().max()) < 1e-5


def test_truncation_after_the_projection_stays_inside_its_null_space(model, tmp_path):
    pairs = {"hidden__positive": features(30, 16, 0), "hidden__negative": torch.zeros(30, 16)}
    stage = NulluProjector(
        0.5, None, paired_features=paired(tmp_path / "pairs.safetensors", **pairs), include=["hidden"]
    )
    report = stage.apply(model, StageContext())
    direction = torch.linalg.svd(features(30, 16, 0), full_matrices=False)[2][:1]
    assert {"projected_out", "rank"} <= report.touched["hidden"].keys()
    left = model.unit("hidden").read().left.detach()
    assert float((direction @ left).abs().max()) < 1e-5


def test_units_that_the_features_do_not_name_or_the_selection_leaves_out_are_not_projected(model, tmp_path):
    pairs = {
        f"{name}__{side}": features(20, out, out)
        for name, out in (("hidden", 16), ("head", 10))
        for side in ("positive",)
    }
    pairs |= {"hidden__negative": features(20, 16, 5), "head__negative": features(20, 10, 6)}
    path = paired(tmp_path / "pairs.safetensors", **pairs)
    report = NulluProjector(None, 1.0, paired_features=path, include=["hidden", "conv"]).apply(model, StageContext())
    assert [name for name, facts in report.touched.items() if "projected_out" in facts] == ["hidden"]
    assert report.facts["paired_features_not_chosen"] == ["head"]


@pytest.mark.parametrize("option", ["rank_reduction_ratio", "energy_threshold", "paired_rank"])
def test_an_option_that_is_no_number_is_refused_by_name(option):
    with pytest.raises(UserError, match=f"{option} is 'much'"):
        NulluProjector(**{option: "much"})
