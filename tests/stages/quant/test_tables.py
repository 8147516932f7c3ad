"""Tables of tokens: how errors of their columns go together, and damage that gradients tell too little of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.calibration.sensitivity import ITEMS, sensitivities
from rcc.layers.form import Form
from rcc.models.own.module import ModuleAdapter
from rcc.stages.base import StageContext
from rcc.stages.quant import Quantizer, tables
from rcc.stages.quant.allocation import Spaced
from rcc.stages.quant.rounding import nearest, with_feedback
from rcc.stages.quant.survey import survey

NAMES = {"words": ["sparse"]}


class Net(nn.Module):
    """Words and their places through a norm, as BERT begins; the outputs are the mean of what a layer makes of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(60, 12)
        self.places = nn.Parameter(0.3 * torch.randn(5, 12))
        self.norm = nn.LayerNorm(12)
        self.out = nn.Linear(12, 8)
        self.refusing = False

    def forward(self, tokens: Tensor) -> Tensor:
        if self.refusing:
            raise RuntimeError("no more")
        return self.out(self.norm(self.words(tokens) + self.places)).tanh().mean(1)


@pytest.fixture
def model() -> ModuleAdapter:
    return ModuleAdapter(Net().eval())


@pytest.fixture
def context() -> StageContext:
    """A hundred items: gradients are taken of 64, which hold none of the last ten words."""
    generator = torch.Generator().manual_seed(1)
    seen, others = torch.randint(50, (ITEMS, 5), generator=generator), torch.randint(60, (36, 5), generator=generator)
    return StageContext(calibration=[{"tokens": each} for each in (seen, others)], storage=torch.float16)


def words(model: ModuleAdapter):
    return next(unit for unit in model.units() if unit.name == "words")


def told(model: ModuleAdapter, context: StageContext):
    return sensitivities(model, model.units(), context.calibration, context.generator())["words"]


def test_damage_at_coarse_steps_is_what_outputs_on_other_items_show(model, context, monkeypatch):
    monkeypatch.setattr(tables, "corrected", lambda model, unit, curves, *_: dict(curves))
    monkeypatch.setattr("rcc.stages.quant.survey.corrected", tables.corrected)
    plain = survey(model, context, NAMES, feedback=False).curves["words", "sparse"]
    monkeypatch.undo()
    found = survey(model, context, NAMES, feedback=False).curves["words", "sparse"]
    np.testing.assert_array_equal(found.bits, plain.bits)
    times = found.damage / plain.damage
    # At eight times a row's size nearly every word is gone: its row is zero, and the norm makes much of its place.
    sensitivity, table = told(model, context), words(model).read().dense().detach()
    errors = table.double()
    predicted = 0.5 * float((((errors @ sensitivity.columns) * errors).sum(1) * sensitivity.rows).sum())
    module, others = model.module, context.calibration[1]["tokens"]
    gone = module.out(module.norm(module.places)).tanh().mean(0).expand(36, 8)
    moved = float((1 - F.cosine_similarity(gone, module(others), dim=-1)).mean().detach())
    assert times[-1] == pytest.approx(moved / predicted, rel=0.05)
    # Steps are coarser for words that gradients were not taken of: their damage is told too small at all steps.
    assert times[0] > 3.0


def test_damage_at_fine_steps_is_what_gradients_tell_of_words_that_they_have_met(model, context):
    known = StageContext(calibration=[context.calibration[0]] * 2, storage=torch.float16)
    curves = survey(model, known, NAMES, feedback=False).curves
    found = tables.corrected(model, words(model), curves, told(model, known), known)
    ratio = found["words", "sparse"].damage[8] / curves["words", "sparse"].damage[8]
    assert ratio == pytest.approx(1.0, abs=0.5)


def test_the_table_is_as_it_was_also_where_the_model_fails(model, context):
    before = words(model).read().dense().detach().clone()
    survey(model, context, NAMES, feedback=True)
    assert torch.equal(words(model).read().dense(), before)
    curves = survey(model, context, NAMES, feedback=True).curves
    sensitivity, calls = told(model, context), []

    def refuse(module, *_):
        calls.append(module)
        module.refusing = len(calls) > 2

    model.module.register_forward_pre_hook(refuse)
    with pytest.raises(RuntimeError, match="no more"):
        tables.corrected(model, words(model), curves, sensitivity, context)
    assert torch.equal(words(model).read().dense(), before)
    assert not words(model).read().quantised


def test_items_of_which_no_gradient_was_taken_are_compared_or_the_last_where_there_are_none():
    batches = [{"tokens": torch.zeros(size, 3)} for size in (40, 30, 20, 50, 50)]
    assert tables._others(batches) == batches[2:4]
    assert tables._others(batches[:2]) == batches[1:2]
    assert tables._others([]) == []


def test_feedback_between_columns_moves_the_outputs_less_than_rounding_to_nearest(model, context):
    sensitivity, form = told(model, context), Form(sparse=words(model).read().dense().detach())
    curve = survey(model, context, NAMES, feedback=True).curves["words", "sparse"]
    grids = {"sparse": Spaced(0.5, curve.rate_at(-1.0), torch.float16)}
    problem = tables.of_table(form.dense(), sensitivity.columns)

    def damage(rounded: Form) -> float:
        errors = (rounded.dense() - form.dense()).double()
        return float(((errors @ sensitivity.columns) * errors).sum())

    assert damage(with_feedback(form, grids, problem)) < 0.9 * damage(nearest(form, grids))


def test_a_table_rounded_under_a_target_is_on_its_grid_and_says_nothing_of_nearest(model, context):
    report = Quantizer().within(600).apply(model, context)
    form = words(model).read()
    assert form.sparse_step is not None
    whole = form.sparse / form.sparse_step[:, None]
    torch.testing.assert_close(whole, whole.round(), rtol=0, atol=1e-4)
    assert "note" not in report.touched["words"]
