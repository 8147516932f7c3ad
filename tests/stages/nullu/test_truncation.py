"""metric=calibration: pairs whose outputs are the nearest to the dense model's, on the inputs really seen."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from toys.layer_rows import context_for, data, rows, svd_llm, weight_of
from toys.models import SmallModel, batches

from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.stages.base import StageContext
from rcc.stages.nullu.projector import NulluProjector

UNITS = ("conv", "hidden", "head")


@pytest.fixture
def context() -> StageContext:
    return context_for(SmallModel())


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("factors", ["balanced", "orthonormal"])
def test_the_pair_is_that_of_the_published_formula_on_the_very_rows(name, factors, context) -> None:
    model = SmallModel()
    near = weight_of(model, name)
    has_bias = model.unit(name).read().bias is not None
    x, y = rows(model, name, context.calibration)
    report = NulluProjector(0.6, None, metric="calibration", factors=factors, include=[name]).apply(model, context)
    facts = report.touched[name]
    expected, bias, s = svd_llm(x, y, near, facts["rank"], has_bias)
    np.testing.assert_allclose(weight_of(model, name), expected, rtol=0, atol=2e-5)
    if bias is not None:
        np.testing.assert_allclose(model.unit(name).read().bias.detach().numpy(), bias, rtol=0, atol=2e-5)
    assert facts["energy_preserved"] == pytest.approx((s[: facts["rank"]] ** 2).sum() / (s**2).sum(), abs=1e-5)
    assert (facts["metric"], facts["samples"]) == ("calibration", len(x))


def test_later_layers_are_fitted_to_dense_outputs_on_the_inputs_that_earlier_pairs_really_give(context) -> None:
    model, dense = SmallModel(), SmallModel()
    report = NulluProjector(0.6, None, metric="calibration").apply(model, context)
    assert list(report.touched) == list(UNITS)
    for name in UNITS:
        x, _ = rows(model, name, context.calibration)
        _, y = rows(dense, name, context.calibration)
        near, has_bias = weight_of(dense, name), dense.unit(name).read().bias is not None
        expected, _, _ = svd_llm(x, y, near, report.touched[name]["rank"], has_bias)
        np.testing.assert_allclose(weight_of(model, name), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("ratio", [0.5, 0.75])
@pytest.mark.parametrize("name", UNITS)
def test_outputs_are_nearer_than_those_of_plain_truncation_at_the_same_rank(name, ratio, context) -> None:
    errors, ranks = {}, {}
    for metric in ("plain", "calibration"):
        model = SmallModel()
        _, wanted = rows(model, name, context.calibration)
        report = NulluProjector(ratio, None, metric=metric, include=[name]).apply(model, context)
        _, put_out = rows(model, name, context.calibration)
        errors[metric] = float(((wanted - put_out) ** 2).sum())
        ranks[metric] = report.touched[name]["rank"]
    assert ranks["plain"] == ranks["calibration"]
    assert errors["calibration"] < errors["plain"]


def test_the_mean_of_the_outputs_is_that_of_the_dense_model(context) -> None:
    model = SmallModel()
    _, wanted = rows(model, "hidden", context.calibration)
    NulluProjector(0.75, None, metric="calibration", include=["conv", "hidden"]).apply(model, context)
    _, put_out = rows(model, "hidden", context.calibration)
    np.testing.assert_allclose(put_out.mean(0), wanted.mean(0), rtol=0, atol=1e-5)


def test_a_later_round_fits_a_lower_rank_to_the_dense_outputs_anew(context) -> None:
    dense, model = SmallModel(), SmallModel()
    NulluProjector(0.3, None, metric="calibration", include=["hidden"]).apply(model, context)
    near = weight_of(model, "hidden")
    x, _ = rows(model, "hidden", context.calibration)
    _, y = rows(dense, "hidden", context.calibration)
    report = NulluProjector(0.6, None, metric="calibration", include=["hidden"]).apply(model, context)
    rank = report.touched["hidden"]["rank"]
    expected, _, _ = svd_llm(x, y, near, rank, bias=True)
    assert rank == 2
    assert model.unit("hidden").read().rank == rank
    np.testing.assert_allclose(weight_of(model, "hidden"), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("refit", [True, False])
def test_a_pair_that_gets_no_smaller_is_fitted_again_to_new_inputs_if_asked(refit, context) -> None:
    model = SmallModel()
    NulluProjector(0.5, None, metric="calibration", include=["head"]).apply(model, context)
    NulluProjector(0.75, None, include=["hidden"]).apply(model, context)  # the head now sees other inputs
    before = model.unit("head").read()
    _, wanted = rows(SmallModel(), "head", context.calibration)
    _, put_out = rows(model, "head", context.calibration)
    stage = NulluProjector(0.5, None, metric="calibration", include=["head"], refit=refit)
    report = stage.apply(model, context)
    _, now = rows(model, "head", context.calibration)
    if refit:
        assert report.touched["head"]["bytes_after"] == report.touched["head"]["bytes_before"]
        assert model.unit("head").read().rank == before.rank
        assert ((wanted - now) ** 2).sum() < 0.99 * ((wanted - put_out) ** 2).sum()
    else:
        assert report.touched == {}
        assert model.unit("head").read().left is before.left


def test_a_pruned_pair_is_not_filled_up_again(context) -> None:
    model = SmallModel()
    NulluProjector(0.3, None, metric="calibration", include=["hidden"]).apply(model, context)
    form = model.unit("hidden").read()
    pruned = Form(left=form.left * (form.left.abs() > form.left.abs().median()), right=form.right, bias=form.bias)
    model.unit("hidden").write(pruned)
    report = NulluProjector(0.3, None, metric="calibration", include=["hidden"]).apply(model, context)
    assert report.touched == {}
    assert torch.equal(model.unit("hidden").read().left, pruned.left)


def test_energy_is_that_of_the_outputs(context) -> None:
    model = SmallModel()
    x, y = rows(model, "conv", context.calibration)
    _, _, s = svd_llm(x, y, weight_of(model, "conv"), 1, bias=True)
    report = NulluProjector(None, 0.8, metric="calibration", include=["conv"]).apply(model, context)
    assert report.touched["conv"]["rank"] == int(((s**2).cumsum() / (s**2).sum() < 0.8).sum()) + 1
    assert report.touched["conv"]["bound"] == "energy"


def test_it_asks_for_calibration_data() -> None:
    model = SmallModel()
    assert NulluProjector(0.5, metric="calibration").needs_calibration
    assert NulluProjector(0.5, metric="calibration").at(0.3).needs_calibration
    assert not NulluProjector(0.5).needs_calibration
    with pytest.raises(UserError, match=r"metric=calibration .* there is none.*metric=plain"):
        NulluProjector(0.5, metric="calibration").apply(model, StageContext())


def test_without_a_dense_model_the_outputs_wanted_are_those_of_the_model_as_it_is() -> None:
    model, same = SmallModel(), SmallModel()
    stage = NulluProjector(0.6, None, metric="calibration")
    stage.apply(model, StageContext(calibration=data()))
    stage.apply(same, context_for(SmallModel()))
    assert all(torch.equal(one, same.module.state_dict()[name]) for name, one in model.module.state_dict().items())


def test_a_unit_that_never_fires_is_truncated_plainly_with_the_reason(context) -> None:
    model, plain = SmallModel(), SmallModel()
    with torch.no_grad():
        for parameter in model.module.hidden.parameters():
            parameter.zero_()
    NulluProjector(0.6, None, metric="plain", include=["head"]).apply(plain, context)
    facts = NulluProjector(0.6, None, metric="calibration", include=["head"]).apply(model, context).touched["head"]
    assert facts["metric"] == "plain"
    assert "no calibration batch reached it with an input other than zero" in facts["note"]
    assert torch.equal(model.unit("head").read().left, plain.unit("head").read().left)


def test_a_unit_whose_inputs_never_vary_is_truncated_plainly_with_the_reason() -> None:
    model = SmallModel()
    one = data(1, 1)[0]
    same = StageContext(calibration=[one, one])
    facts = NulluProjector(0.6, None, metric="calibration", include=["hidden"]).apply(model, same).touched["hidden"]
    assert facts["metric"] == "plain"
    assert "the same in every row" in facts["note"]


def test_a_unit_that_no_batch_reaches_is_truncated_plainly_after_the_others(context) -> None:
    model = SmallModel()
    model.module.spare = torch.nn.Linear(20, 20)
    report = NulluProjector(0.6, None, metric="calibration").apply(model, StageContext(calibration=data()))
    assert list(report.touched) == [*UNITS, "spare"]
    assert (
        report.touched["spare"]["note"]
        == "truncated in the plain metric: no calibration batch reached it with an input other than zero"
    )


def test_too_few_rows_for_the_rank_or_the_width_are_told_with_both_numbers() -> None:
    def note(rows: int, ratio: float) -> str:
        few = StageContext(calibration=batches(1, rows))
        stage = NulluProjector(ratio, None, metric="calibration", include=["hidden"])
        facts = stage.apply(SmallModel(), few).touched["hidden"]
        assert facts["metric"] == "calibration"
        return str(facts.get("note", ""))

    assert "5 rows of calibration inputs for 12 dimensions" in note(5, 0.6)  # rank 2, and one for the bias
    assert "3 rows of calibration inputs for rank 4: at least 5 are needed" in note(3, 0.3)
    assert note(64, 0.3) == ""


def test_a_norm_is_skipped_and_rows_of_zeros_stay_zero() -> None:
    dense = SmallModel()
    form = dense.unit("hidden").read()
    weight, bias = form.dense().clone(), form.bias.clone()
    weight[2], bias[2] = 0.0, 0.0
    dense.unit("hidden").write(Form(sparse=weight, bias=bias))
    model = copy.deepcopy(dense)
    stage = NulluProjector(0.6, None, metric="calibration", include=["norm", "hidden"])
    report = stage.apply(model, context_for(dense))
    assert [skipped.name for skipped in report.skipped if "norm" in skipped.reason] == ["norm"]
    assert float(model.unit("hidden").read().dense().detach()[2].abs().max()) < 1e-6


def test_the_same_input_gives_the_same_bits(context) -> None:
    models = [SmallModel(), SmallModel()]
    for model in models:
        NulluProjector(0.6, None, metric="calibration").apply(model, context)
    states = [model.module.state_dict() for model in models]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_the_model_runs_as_ever_after_an_error_in_the_middle(context) -> None:
    model = SmallModel()
    form = model.unit("head").read().dense().clone()
    form[0, 0] = float("nan")
    model.unit("head").write(Form(sparse=form))
    with pytest.raises(Exception, match="head"):
        NulluProjector(0.6, None, metric="calibration").apply(model, context)
    assert "forward" not in model.module.hidden.__dict__
    assert "forward" not in model.module.head.__dict__
