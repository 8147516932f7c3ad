"""Gradients of every stored value against autograd by hand: norms, convolutions, embeddings, factors, tied weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys.models import Mixed
from toys.models import mixed_batches as batches

from rcc.calibration.weight_gradients import weight_gradients
from rcc.errors import WorkError
from rcc.layers.form import Form
from rcc.layers.units import find_units


def by_hand(model: Mixed, name: str, squared: bool, attribute: str = "weight") -> Tensor:
    """E[G] or E[G²] of one parameter, from one call of autograd a batch."""
    model.module.eval()
    parameter = getattr(model.module.get_submodule(name), attribute)
    found = [torch.autograd.grad(model.loss(batch), parameter)[0] for batch in batches()]
    return torch.stack([one.square() if squared else one for one in found]).mean(0)


def gathered(model: Mixed, squared: bool = False) -> dict[tuple[str, str], Tensor]:
    return weight_gradients(model.module, find_units(model.module), batches(), model.loss, squared)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("name", ["words", "conv", "norm", "hidden", "head"])
def test_means_are_those_of_autograd_in_the_shape_of_the_stored_matrix(name: str, squared: bool) -> None:
    model = Mixed()
    found = gathered(model, squared)[name, "sparse"]
    form = next(unit for unit in find_units(model.module) if unit.name == name).read()
    assert found.shape == form.sparse.shape
    torch.testing.assert_close(found, by_hand(model, name, squared).reshape(form.shape))
    assert bool(found.any())


@pytest.mark.parametrize("squared", [False, True])
def test_factors_and_what_is_beside_them_have_gradients_of_their_own(squared: bool) -> None:
    model = Mixed()
    unit = next(unit for unit in find_units(model.module) if unit.name == "hidden")
    u, s, v = torch.linalg.svd(unit.read().dense().detach(), full_matrices=False)
    scale = torch.linspace(0.5, 2, len(u))
    unit.write(Form(0.1 * unit.read().dense().detach(), (u * s)[:, :3], v[:3], scale, unit.read().bias))
    found = gathered(model, squared)
    for name in ("sparse", "left", "right"):
        torch.testing.assert_close(found["hidden", name], by_hand(model, "hidden", squared, name))


def test_tied_weights_are_one_matrix_with_the_gradient_of_both_uses() -> None:
    module = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Tanh(), nn.Linear(5, 5, bias=False))
    module[2].weight = module[0].weight
    item = {"x": torch.randn(6, 5, generator=torch.Generator().manual_seed(0))}

    def loss(batch: dict[str, Tensor]) -> Tensor:
        return module(batch["x"]).square().sum()

    found = weight_gradients(module, find_units(module), [item], loss, squared=True)
    assert list(found) == [("0", "sparse")]
    wanted = torch.autograd.grad(loss(item), module[0].weight)[0].square()
    torch.testing.assert_close(found["0", "sparse"], wanted)


def test_what_the_loss_does_not_depend_on_has_zeros() -> None:
    model = Mixed()
    assert not gathered(model)["idle", "sparse"].any()
    constant = weight_gradients(model.module, find_units(model.module), batches(), lambda _: torch.tensor(1.0))
    assert not any(bool(gradient.any()) for gradient in constant.values())


def test_squares_of_half_precision_gradients_do_not_vanish() -> None:
    module = nn.Linear(3, 2, bias=False).to(torch.bfloat16)
    root = nn.ModuleDict({"layer": module})
    item = {"x": torch.full((1, 3), 1e-4, dtype=torch.bfloat16)}
    found = weight_gradients(root, find_units(root), [item] * 3, lambda b: root["layer"](b["x"]).sum(), squared=True)
    assert found["layer", "sparse"].dtype == torch.float32
    torch.testing.assert_close(found["layer", "sparse"], torch.full((2, 3), 1e-8), rtol=0.02, atol=0.0)


def test_no_more_than_one_matrix_has_a_gradient_at_a_time() -> None:
    model, alive = Mixed(), []

    def note(*_: object) -> None:
        alive.append(sum(parameter.grad is not None for parameter in model.module.parameters()))

    handles = [model.module[name].register_full_backward_hook(note) for name in ("norm", "hidden", "head")]
    gathered(model)
    for handle in handles:
        handle.remove()
    assert len(alive) >= 2 * len(batches())
    assert max(alive) == 0


def test_nothing_is_left_behind_even_by_a_loss_that_is_not_finite() -> None:
    model = Mixed()
    model.module.train()
    model.module["head"].weight.requires_grad_(False)
    broken = [batches()[0], {**batches()[1], "images": torch.full((4, 2, 5, 5), torch.nan)}]
    with pytest.raises(WorkError, match="nan on calibration batch 1"):
        weight_gradients(model.module, find_units(model.module), broken, model.loss)
    assert model.module.training
    assert not model.module["head"].weight.requires_grad
    assert all(parameter.grad is None for parameter in model.module.parameters())
    model.module.eval()
    model.loss(batches()[0]).backward()  # the hooks are gone: gradients stay
    assert model.module["conv"].weight.grad is not None
