"""Moments of a layer's inputs and wanted outputs against numpy on the very rows; the best bias; shared sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys.models import SharedInputs as Model
from toys.models import token_batches as batches

from rcc.calibration.layer_fits import Site, sites
from rcc.errors import WorkError
from rcc.layers.form import Form
from rcc.layers.input_rows import input_rows
from rcc.layers.units import find_units


def gathered(model: Model, dense: Model, count: int = 3, dtype: torch.dtype = torch.float64) -> dict[str, Site]:
    return {site.unit.name: site for site in sites(model, dense, find_units(model.module), batches(count), dtype=dtype)}


def token_rows(count: int = 3) -> np.ndarray:
    return np.concatenate([batch["tokens"][batch["attention_mask"] != 0].numpy() for batch in batches(count)])


def outputs(module: torch.nn.Module, rows: np.ndarray) -> np.ndarray:
    return module(torch.from_numpy(rows)).detach().numpy()


def test_moments_are_those_of_the_rows_that_count() -> None:
    model = Model()
    dense = model.double()
    with torch.no_grad():
        model.module["q"].weight.mul_(0.5)
    site = gathered(model, dense)["q"]
    x, y = token_rows().astype(np.float64), outputs(dense.module["q"], token_rows()).astype(np.float64)
    assert site.inputs.samples == len(x)
    np.testing.assert_allclose(site.inputs.moment, x.T @ x / len(x), rtol=1e-6)
    np.testing.assert_allclose(site.cross, y.T @ x / len(x), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(site.energy, (y**2).mean(0), rtol=1e-5)
    np.testing.assert_allclose(site.mean, y.mean(0), rtol=1e-5, atol=1e-7)


def test_convolution_rows_and_outputs_belong_together() -> None:
    model = Model()
    dense = model.double()
    site = gathered(model, dense)["conv"]
    weight = dense.module["conv"].weight.detach().flatten(1).double()
    assert site.objective().relative_error(weight) < 1e-9
    rows = [part[0] for b in batches(3) for part in input_rows(model.module["conv"], b["images"])]
    assert site.inputs.samples == sum(map(len, rows))


def test_the_dense_weight_is_the_minimum_while_nothing_is_compressed() -> None:
    model = Model()
    for site in gathered(model, model.double()).values():
        form = site.unit.read()
        problem = site.damped(form.sparse, 1e-9)
        torch.testing.assert_close(problem.solution, form.sparse.double(), rtol=1e-4, atol=1e-4)


def test_the_objective_is_the_mean_squared_error_with_the_best_bias() -> None:
    model = Model()
    dense = model.double()
    site = gathered(model, dense)["q"]
    other = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bias = site.settled(Form(sparse=other, bias=torch.zeros(4, dtype=torch.float64))).bias
    x, y = token_rows().astype(np.float64), outputs(dense.module["q"], token_rows()).astype(np.float64)
    left = y - x @ other.numpy().T
    np.testing.assert_allclose(bias, left.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(site.objective().error(other), ((left - left.mean(0)) ** 2).mean(0), rtol=1e-5)


@pytest.mark.parametrize("name", ["q", "conv"])
def test_rows_are_the_inputs_with_their_wanted_outputs_while_the_iterator_waits(name: str) -> None:
    model = Model()
    dense = model.double()
    for site in sites(model, dense, find_units(model.module), batches(), dtype=torch.float64, rows=True):
        if site.unit.name == name:
            x, y = (torch.cat(parts).double() for parts in zip(*site.rows(), strict=True))
            assert len(x) == site.inputs.samples
            torch.testing.assert_close(y.T @ x / len(x), site.cross)
            found = site
    with pytest.raises(ValueError, match=f"the activations at {name} are gone"):
        found.rows()


def test_without_a_bias_none_is_made_up() -> None:
    model = Model()
    dense = model.double()
    site = gathered(model, dense)["k"]
    other = torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert site.settled(Form(sparse=other)).bias is None
    x, y = token_rows().astype(np.float64), outputs(dense.module["k"], token_rows()).astype(np.float64)
    np.testing.assert_allclose(site.objective().error(other), ((y - x @ other.numpy().T) ** 2).mean(0), rtol=1e-5)


def test_shared_inputs_are_summed_once() -> None:
    found = gathered(model := Model(), model.double())
    assert found["q"].inputs is found["k"].inputs
    assert found["q"].inputs is not found["out"].inputs


def test_later_layers_are_fitted_to_the_dense_outputs_on_the_inputs_they_now_get() -> None:
    model = Model()
    dense = model.double()
    for site in sites(model, dense, find_units(model.module), batches(), dtype=torch.float64):
        if site.unit.name == "q":
            site.unit.write(replace(site.unit.read(), sparse=torch.zeros(4, 6)))
        if site.unit.name == "out":
            rows, wanted = [], []
            for batch in batches():
                tokens = batch["tokens"][batch["attention_mask"] != 0]
                rows.append(model.module["q"](tokens).sigmoid() * model.module["k"](tokens))
                wanted.append(dense.outputs(batch)["text"][batch["attention_mask"] != 0])
            x, y = torch.cat(rows).double(), torch.cat(wanted).double()
            torch.testing.assert_close(site.inputs.moment, x.T @ x / len(x), rtol=1e-5, atol=1e-8)
            torch.testing.assert_close(site.cross, y.T @ x / len(x), rtol=1e-5, atol=1e-8)


def test_a_unit_that_never_fires_says_so() -> None:
    model = Model()
    silent = [{**batch, "tokens": torch.zeros_like(batch["tokens"])} for batch in batches(1)]
    site = next(sites(model, model.double(), find_units(model.module), silent))
    assert not site.fired
    assert "no calibration batch" in site.note


def test_inputs_that_do_not_vary_leave_the_weight_to_what_it_is_kept_near() -> None:
    """All of them alike but for rounding: a bias makes up for any weight, and noise must not choose one."""
    model = Model()
    noise = torch.Generator().manual_seed(0)
    alike = [
        {
            **batch,
            "tokens": torch.full_like(batch["tokens"], 0.1)
            + 1e-7 * torch.randn(batch["tokens"].shape, generator=noise),
        }
        for batch in batches(3)
    ]
    found = {site.unit.name: site for site in sites(model, model.double(), find_units(model.module), alike)}
    site = found["q"]
    assert site.has_bias
    assert site.fired
    assert not site.varies
    assert "the same in every row" in site.note
    assert float(site.inputs.covariance.diagonal().mean()) > 0
    near = torch.randn(site.unit.shape, generator=noise, dtype=torch.float64)
    torch.testing.assert_close(site.damped(near).solution, near.to(site.mean), rtol=1e-6, atol=1e-6)


def test_fewer_rows_than_inputs_are_said() -> None:
    model = Model()
    few = [{key: value[:1, :2] if key != "images" else value[:1] for key, value in batches(1)[0].items()}]
    site = next(sites(model, model.double(), find_units(model.module), few))
    assert site.note.startswith("2 rows of calibration inputs for 6 dimensions")


def test_nan_inputs_are_refused_by_the_name_of_the_unit() -> None:
    model = Model()
    broken: list[dict[str, Tensor]] = batches(1)
    broken[0]["tokens"][0, 0, 0] = torch.nan
    with pytest.raises(WorkError, match="wanted outputs of q hold a NaN"):
        list(sites(model, model.double(), find_units(model.module), broken))


def test_layers_of_one_input_but_different_kernels_have_moments_of_their_own() -> None:
    class Branches(Model):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.ModuleDict({"wide": nn.Conv2d(2, 3, 3, padding=1), "narrow": nn.Conv2d(2, 3, 1)})

        def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"image": self.module["wide"](batch["images"]) + self.module["narrow"](batch["images"])}

    found = gathered(model := Branches(), model.double())
    for name, width in (("wide", 18), ("narrow", 2)):
        assert found[name].inputs.moment.shape == (width, width)
        weight = model.module[name].weight.detach().flatten(1).double()
        assert found[name].objective().relative_error(weight) < 1e-9


def test_an_input_that_was_changed_in_place_is_summed_anew() -> None:
    class InPlace(Model):
        def outputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            tokens = batch["tokens"].clone()
            first = self.module["q"](tokens)
            return {"text": first + self.module["k"](tokens.mul_(2))}

    found = gathered(model := InPlace(), model.double())
    torch.testing.assert_close(found["k"].inputs.moment, 4 * found["q"].inputs.moment)
