"""Pruned small models: their zeros, factors and output errors, as the tests of solvers compare them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from toys.layer_rows import context_for, data
from toys.models import SmallModel

from rcc.calibration.layer_fits import layer_fits
from rcc.layers.form import Form
from rcc.layers.units import Unit
from rcc.ops.quadratic import Quadratic
from rcc.stages.dare.compressor import DARECompressor

UNITS = ("conv", "hidden", "head")
SOLVERS = ("admm", "obs")


def pruned(options: dict[str, Any], model: SmallModel | None = None) -> tuple[SmallModel, Any]:
    """A pruned model and the report; layers keep equal shares unless the options say otherwise."""
    model = model or SmallModel()
    report = DARECompressor(**{"allocation": "uniform", **options}).apply(model, context_for(SmallModel()))
    return model, report


def zeros(unit: Unit) -> int:
    return unit.read().stored - unit.read().nonzeros


def factorise(unit: Unit, rank: int, sparse: float = 0.0) -> None:
    weight = unit.read().dense().detach()
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    pair = (left * values)[:, :rank].contiguous(), right[:rank].contiguous()
    rest = weight - pair[0] @ pair[1] if sparse else None
    unit.write(Form(rest, *pair, bias=unit.read().bias))


def bits(model: SmallModel) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in model.module.state_dict().values()]


def output_errors(model: SmallModel) -> dict[str, float]:
    """Σ (y − ŷ)² / Σ (y − ȳ)² of every layer, in the model as it is, against the dense model."""
    dense, errors = SmallModel(), {}
    outputs: dict[tuple[int, str], list[torch.Tensor]] = {}
    for number, one in enumerate((dense, model)):
        one.module.eval()
        handles = [
            one.unit(name).module.register_forward_hook(
                lambda _, __, y, key=(number, name): outputs.setdefault(key, []).append(
                    (y.movedim(1, -1).flatten(0, -2) if y.dim() > 2 else y).detach()
                )
            )
            for name in UNITS
        ]
        for batch in data():
            one.outputs(batch)
        for handle in handles:
            handle.remove()
    for name in UNITS:
        wanted, found = torch.cat(outputs[0, name]), torch.cat(outputs[1, name])
        centred = wanted - wanted.mean(0) if model.unit(name).read().bias is not None else wanted
        errors[name] = float((wanted - found).square().sum() / centred.square().sum())
    return errors


def best_on_support(problem: Quadratic, support: torch.Tensor) -> torch.Tensor:
    """The best values on `support` (out, in), row by row, by direct solves."""
    best = torch.zeros(support.shape, dtype=torch.float64)
    for row, kept in enumerate(support):
        j = kept.nonzero().view(-1)
        best[row, j] = torch.linalg.solve(problem.moment[j][:, j].double(), problem.cross[row, j].double())
    return best


def assert_fitted_to_its_own_inputs(model: SmallModel, dense: SmallModel, name: str) -> None:
    """On the inputs that the layer now gets, near the best on its support; and nearer than a fit to dense inputs."""
    models = model, copy.deepcopy(dense)
    units = [one.unit(name) for one in models]
    own, blind = (
        next(iter(layer_fits(one, dense, [unit], data(), torch.float64)))
        for one, unit in zip(models, units, strict=True)
    )
    weight, wanted = units[0].read().sparse, units[1].read().sparse.detach()
    problem = own.objective().damped(wanted, 0.01)
    errors = [
        float(problem.error(one).sum())
        for one in (
            weight,
            best_on_support(problem, weight != 0),
            best_on_support(blind.objective().damped(wanted, 0.01), weight != 0),
        )
    ]
    assert errors[1] * (1 - 1e-6) <= errors[0] <= errors[1] * 1.05
    assert errors[0] < errors[2]
