"""Per-row products over calibration data, against numpy on the inputs the hooks saw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rcc.calibration.row_fit import fit_rows
from rcc.layers.form import Form
from rcc.layers.units import find_units


class Model:
    """A convolution, a linear layer on its channels, and a layer that never runs."""

    def __init__(self, padding: int | str = 1) -> None:
        torch.manual_seed(0)
        self.module = nn.ModuleDict(
            {
                "conv": nn.Conv2d(3, 4, 3, padding=padding),
                "linear": nn.Linear(4, 5),
                "idle": nn.Linear(2, 2),
                "norm": nn.LayerNorm(5),
            }
        )

    def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        hidden = self.module["conv"](batch["images"]).flatten(2).mean(2)
        return {"out": self.module["norm"](self.module["linear"](hidden))}


def batches(count: int = 3) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(4)
    return [{"images": torch.randn(2, 3, 6, 6, generator=generator)} for _ in range(count)]


@pytest.mark.parametrize("padding", [1, "same"])
def test_products_equal_those_of_the_outputs_without_bias(padding: int | str) -> None:
    model, data = Model(padding), batches()
    units = find_units(model.module)
    wanted = {unit.name: torch.randn(unit.shape, generator=torch.Generator().manual_seed(9)) for unit in units}
    fits = fit_rows(model, units, lambda unit: wanted[unit.name], data)

    conv = model.module["conv"]
    for name, kernel_of in (("conv", lambda weight: weight.view(4, 3, 3, 3)), ("linear", lambda weight: weight)):
        cross, energy = np.zeros(units[0].shape[0] if name == "conv" else 5), 0.0
        for batch in data:
            inputs = batch["images"] if name == "conv" else conv(batch["images"]).flatten(2).mean(2)
            apply = (
                (lambda x, w: nn.functional.conv2d(x, w, padding=padding).movedim(1, -1).reshape(-1, 4))
                if name == "conv"
                else nn.functional.linear
            )
            actual = apply(inputs, model.module[name].weight).detach().double().numpy()
            target = apply(inputs, kernel_of(wanted[name])).detach().double().numpy()
            cross = cross + (target * actual).sum(0)
            energy = energy + (actual**2).sum(0)
        np.testing.assert_allclose(fits[name].cross.numpy(), cross, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(fits[name].energy.numpy(), energy, rtol=1e-5)


def test_a_unit_that_never_runs_has_sums_of_zero_and_norms_are_not_fitted() -> None:
    model = Model()
    units = find_units(model.module)
    fits = fit_rows(model, units, lambda unit: torch.ones(unit.shape), batches(1))
    assert set(fits) == {"conv", "linear", "idle"}
    assert fits["idle"].energy.tolist() == [0.0, 0.0]


def test_factors_of_a_low_rank_layer_are_seen_and_no_hook_stays_behind() -> None:
    model, data = Model(), batches(1)
    unit = next(unit for unit in find_units(model.module) if unit.name == "linear")
    left, right = torch.randn(5, 2), torch.randn(2, 4)
    unit.write(Form(left=left, right=right, bias=unit.read().bias))
    fit = fit_rows(model, [unit], lambda unit: left @ right, data)["linear"]
    torch.testing.assert_close(fit.cross, fit.energy)
    assert not unit.module._forward_hooks
