"""solver_target=own and solver_refit: a layer's own outputs in one forward; the sweep of SparseGPT on its moments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toys.layer_rows import context_for, data, rows
from toys.models import SmallModel
from toys.solved_layers import SOLVERS, UNITS, bits, output_errors, pruned, zeros

from rcc.errors import UserError
from rcc.ops.obs import obs_prune
from rcc.ops.quadratic import Quadratic
from rcc.stages.dare.compressor import DARECompressor


@pytest.mark.parametrize("solver", SOLVERS)
def test_counts_are_exact_and_one_forward_a_batch_is_all_that_it_takes_once_the_order_is_known(solver: str) -> None:
    class Counting(SmallModel):
        calls = 0

        def outputs(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            Counting.calls += 1
            return super().outputs(batch)

    def refuse() -> None:
        raise AssertionError("nothing is asked of the dense model")

    model = Counting()
    context = replace(context_for(SmallModel()), dense=refuse)
    DARECompressor(0.7, solver=solver, solver_target="own", allocation="uniform").apply(model, context)
    assert Counting.calls == 2 * len(data())
    DARECompressor(0.7, solver=solver, solver_target="own", allocation="uniform").apply(model, context)
    assert Counting.calls == 3 * len(data())
    assert all(zeros(model.unit(name)) == round(0.7 * model.unit(name).numel) for name in UNITS)


def test_the_first_layer_is_the_sweep_over_the_covariance_of_its_inputs() -> None:
    model, dense = SmallModel(), SmallModel()
    pruned({"target_sparsity": 0.6, "solver": "obs", "solver_target": "own", "solver_refit": 0}, model)
    given, _ = rows(dense, "conv", data())
    centred = given.astype(np.float64) - given.mean(0, dtype=np.float64)
    moment = torch.from_numpy(centred.T @ centred / len(centred))
    weight = dense.unit("conv").read().dense().detach().double()
    moment.diagonal().add_(0.01 * moment.diagonal().mean())
    expected = obs_prune(Quadratic.around(weight, moment), weight.numel() - round(0.6 * weight.numel()))
    found = model.unit("conv").read().sparse.double()
    assert float((found - expected).norm() / expected.norm()) < 1e-3


@pytest.mark.parametrize("solver", SOLVERS)
def test_later_layers_do_not_make_up_for_what_the_earlier_ones_have_lost(solver: str) -> None:
    (own, report), (towards, _) = (
        pruned({"target_sparsity": 0.8, "solver": solver, "solver_target": target}) for target in ("own", "dense")
    )
    assert output_errors(towards)["head"] < output_errors(own)["head"]
    masked, _ = pruned({"target_sparsity": 0.8, "solver": "none"})
    assert output_errors(own)["head"] < output_errors(masked)["head"]
    assert all(report.touched[name]["output_error_before"] == 0.0 for name in UNITS)


def test_more_least_squares_lower_the_error_of_the_first_layer() -> None:
    errors = [
        output_errors(pruned({"target_sparsity": 0.8, "solver": "obs", "solver_refit": refit})[0])["conv"]
        for refit in (0, 2, 6)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_the_same_step_gives_the_same_bytes_again() -> None:
    options = {"target_sparsity": 0.7, "solver": "obs", "solver_target": "own", "solver_refit": 0}
    assert bits(pruned(options)[0]) == bits(pruned(options)[0])


def test_wrong_options_are_reported_at_once() -> None:
    with pytest.raises(UserError) as error:
        DARECompressor(0.5, solver="obs", solver_target="teacher", solver_refit=-1)
    assert "teacher" in str(error.value)
    assert "solver_refit is -1; it must be a whole number from 0 up" in str(error.value)
    with pytest.raises(UserError, match="solver_target=own has no effect with solver=none: take solver=admm or obs"):
        DARECompressor(0.5, solver="none", solver_target="own")
