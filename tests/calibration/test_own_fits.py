"""Sites of a model's own outputs against numpy on the very rows; inputs shared; one forward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys.models import SharedInputs as Model
from toys.models import token_batches as batches

from rcc.calibration.own_fits import own_sites
from rcc.calibration.side_by_side import arrivals
from rcc.errors import WorkError
from rcc.layers.form import Form
from rcc.layers.units import find_units


def test_what_is_wanted_is_what_the_layer_makes_of_the_rows_that_count() -> None:
    model = Model()
    found = {site.unit.name: site for site in own_sites(model, find_units(model.module), batches(), torch.float64)}
    x = np.concatenate([batch["tokens"][batch["attention_mask"] != 0].numpy() for batch in batches()])
    for name in ("q", "k"):
        site, y = found[name], model.module[name](torch.from_numpy(x)).detach().numpy().astype(np.float64)
        assert site.inputs.samples == len(x)
        np.testing.assert_allclose(site.inputs.covariance, np.cov(x.T.astype(np.float64), bias=True), atol=1e-7)
        np.testing.assert_allclose(site.mean, y.mean(0), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(site.cross, y.T @ x / len(x), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(site.energy, (y**2).mean(0), rtol=1e-5)
    assert list(found) == ["q", "k", "out", "conv"]


def test_units_of_one_input_share_its_moments_and_one_forward_a_batch_is_enough() -> None:
    model = Model()
    found = {site.unit.name: site for site in own_sites(model, find_units(model.module), batches())}
    assert found["q"].inputs is found["k"].inputs is not found["out"].inputs
    assert model.calls == len(batches())


def test_later_layers_are_met_on_what_the_earlier_ones_have_become() -> None:
    model = Model()
    for site in own_sites(model, find_units(model.module), batches()):
        if site.unit.name == "k":
            site.unit.write(Form(torch.zeros(4, 6)))
        if site.unit.name == "out":
            assert not site.fired


def test_inputs_that_are_not_finite_are_named() -> None:
    model, data = Model(), batches()
    data[1]["tokens"][0, 0, 0] = float("nan")
    with pytest.raises(WorkError, match="inputs of q hold a NaN"):
        list(own_sites(model, find_units(model.module), data))


def test_batches_that_run_different_layers_are_refused() -> None:
    class Either(Model):
        def outputs(self, batch):  # type: ignore[no-untyped-def]
            return {"text": self.module["q" if batch["tokens"].shape[1] == 3 else "k"](batch["tokens"])}

    model = Either()
    with pytest.raises(WorkError, match="k and q came at once"):
        list(arrivals(model, find_units(model.module), batches(2)))
    assert not any("forward" in module.__dict__ for module in model.module.modules())
