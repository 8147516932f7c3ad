"""metric=calibration: pairs whose outputs on the calibration data are the nearest of their rank."""

from __future__ import annotations

import pytest
import torch
from small_net import SmallModel, batches

import rcc.stages.nullu as under_test
from rcc.calibration.moments import InputMoments
from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.stages.base import StageContext
from rcc.stages.nullu import NulluProjector

UNITS = ("conv", "hidden", "head")


@pytest.fixture
def context() -> StageContext:
    data = batches(6, 16)
    for batch in data:  # images whose channels and neighbours go together
        batch["images"] = batch["images"].cumsum(3) * torch.tensor([4.0, 1.0, 0.2])[:, None, None]
    return StageContext(calibration=data)


def moments_of(model: SmallModel, context: StageContext):
    return InputMoments(model, model.units(), context.calibration, full=True, dtype=torch.float64).gather()


def output_error(weight, now, moments) -> float:
    """Root mean square change of the outputs, from H without damping."""
    change = (weight - now).double()
    return float(((change @ moments.full.double()) * change).sum().clamp_min(0).sqrt())


@pytest.mark.parametrize("ratio", [0.5, 0.75])
@pytest.mark.parametrize("name", UNITS)
def test_outputs_are_nearer_than_those_of_plain_truncation_at_the_same_rank(name, ratio, context) -> None:
    errors, ranks = {}, {}
    for metric in ("plain", "calibration"):
        model = SmallModel()
        weight, moments = model.unit(name).read().dense().clone(), moments_of(model, context)[name]
        report = NulluProjector(ratio, None, metric=metric, include=[name]).apply(model, context)
        errors[metric] = output_error(weight, model.unit(name).read().dense().detach(), moments)
        ranks[metric] = report.touched[name]["rank"]
    assert ranks["plain"] == ranks["calibration"]
    assert errors["calibration"] < errors["plain"]


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("factors", ["balanced", "orthonormal"])
def test_the_pair_is_the_direct_svd_in_the_damped_metric(name, factors, context) -> None:
    model = SmallModel()
    weight, h = model.unit(name).read().dense().double(), moments_of(model, context)[name].damped()
    report = NulluProjector(0.6, None, metric="calibration", factors=factors, include=[name]).apply(model, context)
    rank = report.touched[name]["rank"]
    squares, vectors = torch.linalg.eigh(h)
    root = (vectors * squares.sqrt()) @ vectors.T
    u, s, v = torch.linalg.svd(weight @ root, full_matrices=False)
    expected = (u[:, :rank] * s[:rank]) @ v[:rank] @ torch.linalg.inv(root)
    torch.testing.assert_close(model.unit(name).read().dense().double(), expected, rtol=0, atol=1e-5)
    kept = float(s[:rank].square().sum() / s.square().sum())
    assert report.touched[name]["energy_preserved"] == pytest.approx(kept, abs=1e-5)
    assert report.touched[name]["metric"] == "calibration"
    assert report.touched[name]["samples"] == moments_of(model, context)[name].samples


def test_a_pair_that_is_there_already_is_truncated_from_its_factors(context) -> None:
    model = SmallModel()
    NulluProjector(0.3, None, include=["hidden"]).apply(model, context)
    weight, h = model.unit("hidden").read().dense().double(), moments_of(model, context)["hidden"].damped()
    report = NulluProjector(0.6, None, metric="calibration", include=["hidden"]).apply(model, context)
    rank = report.touched["hidden"]["rank"]
    lost = (weight - model.unit("hidden").read().dense().double()) @ torch.linalg.cholesky(h)
    s = torch.linalg.svdvals(weight @ torch.linalg.cholesky(h))
    assert float(lost.detach().norm()) == pytest.approx(float(s[rank:].detach().norm()), rel=1e-4)


def test_energy_is_that_of_the_outputs(context) -> None:
    model = SmallModel()
    h = moments_of(model, context)["conv"].damped()
    s = torch.linalg.svdvals(model.unit("conv").read().dense().double() @ torch.linalg.cholesky(h)).square()
    rank = int((s.cumsum(0) / s.sum() < 0.8).sum()) + 1
    report = NulluProjector(None, 0.8, metric="calibration", include=["conv"]).apply(model, context)
    assert report.touched["conv"]["rank"] == rank
    assert report.touched["conv"]["bound"] == "energy"


def test_it_asks_for_calibration_data(context) -> None:
    model = SmallModel()
    assert NulluProjector(0.5, metric="calibration").needs_calibration
    assert NulluProjector(0.5, metric="calibration").at(0.3).needs_calibration
    assert not NulluProjector(0.5).needs_calibration
    with pytest.raises(UserError, match=r"metric=calibration .* there is none.*metric=plain"):
        NulluProjector(0.5, metric="calibration").apply(model, StageContext())


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(UserError, match="metric"):
        NulluProjector(metric="output")


def test_units_that_nothing_reaches_or_that_have_few_rows_are_told_of(context) -> None:
    model = SmallModel()
    with torch.no_grad():
        for parameter in model.module.hidden.parameters():
            parameter.zero_()
    plain = SmallModel()
    expected = NulluProjector(0.6, None, include=["head"]).apply(plain, context)
    report = NulluProjector(0.6, None, metric="calibration", include=["head"]).apply(model, context)
    facts = report.touched["head"]
    assert facts["metric"] == "plain"
    assert "no calibration batch reached it" in facts["note"]
    assert facts["energy_preserved"] == pytest.approx(expected.touched["head"]["energy_preserved"])
    few = StageContext(calibration=batches(1, 5))
    facts = (
        NulluProjector(0.6, None, metric="calibration", include=["hidden"]).apply(SmallModel(), few).touched["hidden"]
    )
    assert facts["metric"] == "calibration"
    assert "5 rows of calibration inputs for 12 dimensions" in facts["note"]


def test_a_norm_is_skipped_and_zeros_stay_zero(context) -> None:
    model = SmallModel()
    weight = model.unit("hidden").read().dense().clone()
    weight[2] = 0.0
    model.unit("hidden").write(Form(sparse=weight, bias=model.unit("hidden").read().bias))
    report = NulluProjector(0.6, None, metric="calibration", include=["norm", "hidden"]).apply(model, context)
    assert [skipped.name for skipped in report.skipped if "norm" in skipped.reason] == ["norm"]
    assert not bool(model.unit("hidden").read().left[2].any())


def test_under_a_small_budget_later_layers_are_fitted_to_what_they_really_see(context, monkeypatch) -> None:
    monkeypatch.setattr(under_test, "BUDGET", 1)
    model = SmallModel()
    stage = NulluProjector(0.6, None, metric="calibration", include=["conv", "head"])
    conv_alone = SmallModel()
    NulluProjector(0.6, None, metric="calibration", include=["conv"]).apply(conv_alone, context)
    h = moments_of(conv_alone, context)["head"].damped()
    s = torch.linalg.svdvals(model.unit("head").read().dense().double() @ torch.linalg.cholesky(h)).square()
    report = stage.apply(model, context)
    rank = report.touched["head"]["rank"]
    kept = float(s[:rank].sum() / s.sum())
    assert report.touched["head"]["energy_preserved"] == pytest.approx(kept, abs=1e-6)
    again = SmallModel()
    NulluProjector(0.6, None, metric="calibration", include=["conv", "head"]).apply(again, context)
    assert all(
        torch.equal(tensor, again.module.state_dict()[name]) for name, tensor in model.module.state_dict().items()
    )
