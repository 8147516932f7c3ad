"""Learned steps: their gradient by LSQ's own formula, what they may be, and that a reload computes the same."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import rcc
from rcc.layers.form import Form
from rcc.layers.grid import from_grid, powers, to_grid, to_powers
from rcc.layers.units import find_units
from rcc.learning.form_of import FormOf, representable
from rcc.learning.held import held
from rcc.models.own.module import ModuleAdapter


def lsq(latent: float, step: float, largest: int) -> float:
    """∂ŵ/∂s of one weight, equation 3 of the paper, for numbers from −Q to Q."""
    ratio = latent / step
    if ratio <= -largest:
        return -largest
    return float(largest) if ratio >= largest else round(ratio) - ratio


@pytest.mark.parametrize("is_open", [False, True])
def test_the_gradient_of_a_step_is_that_of_lsq(is_open: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    latent = torch.randn(4, 9, generator=generator, dtype=torch.float64).requires_grad_()
    slopes = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    step = torch.tensor([0.25, 0.5, 0.125, 1.0], dtype=torch.float64)
    zeros = torch.rand(4, 9, generator=generator) < 0.3
    keep = FormOf(zeros, step.clone(), 3, is_open, torch.float32)
    matrix = keep(latent)
    (matrix * slopes).sum().backward()
    assert keep.factor is not None
    for row in range(4):
        kept = [column for column in range(9) if not zeros[row, column]]
        each = [
            float(slopes[row, column]) * lsq(float(latent.detach()[row, column]), float(step[row]), 3)
            for column in kept
        ]
        wanted = sum(each) / math.sqrt(len(kept) * 3) * float(step[row])  # of the factor, the step's over its start
        assert float(keep.factor.grad[row]) == pytest.approx(wanted, rel=1e-6)
    inside = (latent / step[:, None]).abs() <= 3.5
    passed = slopes * inside if is_open else slopes * inside * ~zeros
    assert torch.equal(latent.grad, passed)


def test_steps_stay_numbers_that_are_stored_and_powers_stay_powers() -> None:
    drawn = torch.rand(50, generator=torch.Generator().manual_seed(0)) * 0.1 + 1e-3
    kept = representable(drawn, torch.float16, as_powers=False)
    assert torch.equal(kept, kept.half().float())
    assert float((kept / drawn - 1).abs().max()) < 2**-10
    whole = representable(drawn, torch.float16, as_powers=True)
    assert to_powers(whole.half()) is not None
    assert float((whole.log2() - drawn.log2()).abs().max()) <= 1 / 16 + 1e-3
    assert bool((representable(torch.tensor([-1.0, 0.0, 1e9]), torch.float16, False) > 0).all())


def network(as_powers: bool) -> nn.Sequential:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3))
    whole = torch.randint(-7, 8, (20, 6), dtype=torch.int8)
    exponents = torch.randint(-30, -20, (20,))
    step = powers(exponents, torch.float16).float() if as_powers else (torch.rand(20) * 0.1 + 0.02).half().float()
    find_units(module)[0].write(Form(sparse=from_grid(whole, step), sparse_step=step, bias=torch.randn(20)))
    return module


def trained(module: nn.Module, x: Tensor, steps: int = 12) -> None:
    optimiser = torch.optim.AdamW(module.parameters(), 0.02)
    for _ in range(steps):
        optimiser.zero_grad()
        (module(x) - 1).square().mean().backward()
        optimiser.step()


@pytest.mark.parametrize("as_powers", [False, True])
def test_learned_steps_move_and_what_is_saved_computes_what_was_measured(as_powers: bool, tmp_path: Path) -> None:
    module, x = network(as_powers), torch.randn(16, 6)
    before = find_units(module)[0].read()
    assert before.sparse is not None
    assert before.sparse_step is not None
    zeros, start = before.sparse.detach() == 0, before.sparse_step.clone()
    holding = held(module, storage=torch.float16, learn_steps=True)
    trained(module, x)
    with holding.as_stored():
        outputs = module(x)
        state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    trained(module, x, 3)
    module.load_state_dict(state)
    holding.release()
    form = find_units(module)[0].read()
    assert form.sparse is not None
    assert form.sparse_step is not None
    assert not torch.equal(form.sparse_step, start)
    assert (to_powers(form.sparse_step.half()) is not None) == as_powers
    to_grid(form.sparse.detach(), form.sparse_step)
    assert not bool(form.sparse[zeros].any())
    assert all(not name.endswith("factor") for name, _ in module.named_parameters())
    rcc.save(ModuleAdapter(module), tmp_path / "a", dtype="float16")
    again = rcc.load(tmp_path / "a", skeleton=nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3)))
    assert torch.equal(again.module(x), outputs)


def test_steps_that_are_not_learned_stay() -> None:
    module, x = network(True), torch.randn(16, 6)
    start = module[0].sparse_step.clone()
    with held(module):
        trained(module, x)
    assert torch.equal(module[0].sparse_step, start)


@pytest.mark.parametrize("most", [10**9, 0])
def test_bytes_bound_learned_steps_too(most: int) -> None:
    module, x = network(True), torch.randn(16, 6)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with held(module, storage=torch.float16, learn_steps=True) as holding:
        holding.keep_within(lambda: most > 0)
        trained(module, x)
        with holding.as_stored():
            state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
            outputs = module(x)
        module.load_state_dict(state)
    after = module.state_dict()
    assert torch.equal(module(x), outputs)
    same = all(torch.equal(tensor.half(), after[name].half()) for name, tensor in before.items())
    assert same == (most == 0)
