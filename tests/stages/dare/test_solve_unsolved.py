"""solver=admm|obs where there is nothing to solve for: masks, notes, order, zeros, and progress."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from toys.layer_rows import context_for, data
from toys.models import SmallModel
from toys.solved_layers import SOLVERS, assert_fitted_to_its_own_inputs, bits, pruned

from rcc.layers.form import Form
from rcc.stages.base import StageContext
from rcc.stages.dare.compressor import DARECompressor


class WordModel(SmallModel):
    """Beside the net an embedding before it, a depthwise convolution, and a layer that never runs."""

    default_roles = ("linear", "conv", "embedding", "norm")

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.module.words = nn.Embedding(10, 12)
            self.module.grouped = nn.Conv2d(3, 3, 3, padding=1, groups=3)
            self.module.idle = nn.Linear(6, 4)

    def outputs(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        net = self.module
        pooled = net.conv(net.grouped(batch["images"])).relu().mean((2, 3)) + net.words(batch["labels"])
        return {"features": net.head(net.dropout(torch.tanh(net.hidden(net.norm(pooled)))))}


@pytest.mark.parametrize("solver", SOLVERS)
def test_embeddings_norms_and_layers_never_called_are_masked_with_a_note(solver: str) -> None:
    model, dense = WordModel(), WordModel()
    before = {name: dense.unit(name).read().sparse.clone() for name in ("words", "norm", "idle")}
    report = DARECompressor(0.5, solver=solver).apply(model, context_for(dense))
    for name, weight in before.items():
        after = model.unit(name).read().sparse
        assert int((after == 0).sum()) == round(0.5 * weight.numel())
        assert torch.equal(after[after != 0], weight[after != 0])
    assert "no calibration batch reached it" in report.touched["idle"]["note"]
    assert "an embedding looks its rows up" in report.touched["words"]["note"]
    assert "output_error" in report.touched["hidden"]
    assert "output_error" in report.touched["grouped"]


def test_what_is_masked_goes_first_so_that_later_layers_make_up_for_it() -> None:
    model, dense = WordModel(), WordModel()
    DARECompressor(0.5, solver="admm", exclude=["conv"]).apply(model, context_for(dense))
    for name in ("hidden", "head"):
        assert_fitted_to_its_own_inputs(model, dense, name)


def test_a_unit_of_zeros_held_as_factors_harms_nothing() -> None:
    model = SmallModel()
    model.unit("hidden").write(Form(left=torch.zeros(16, 3), right=torch.zeros(3, 12), bias=torch.zeros(16)))
    pruned({"target_sparsity": 0.5, "solver": "admm"}, model)
    assert not any(bool(matrix.any()) for _, matrix in model.unit("hidden").read().matrices())
    assert bool(torch.isfinite(model.unit("head").read().sparse).all())


def test_without_a_dense_model_the_one_that_comes_in_is_the_target() -> None:
    model = SmallModel()
    DARECompressor(0.7, solver="admm", allocation="uniform").apply(model, StageContext(calibration=data()))
    assert bits(model) == bits(pruned({"target_sparsity": 0.7, "solver": "admm"})[0])


def test_progress_never_goes_back_and_ends_at_all_layers() -> None:
    seen: list[tuple[int, int]] = []
    model, dense = WordModel(), WordModel()
    context = replace(context_for(dense), progress=lambda done, total, what: seen.append((done, total)))
    DARECompressor(0.5, solver="admm").apply(model, context)
    assert seen == [(done, 7) for done in range(1, 8)]
