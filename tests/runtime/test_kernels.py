"""Every kernel computes the weight its form stands for, and each is offered only where it applies."""

import pytest
import torch
import torch.nn.functional as F

from rcc.layers.form import Form
from rcc.runtime.kernels import ALLOWED, Kernel, kernels, sparsity

CPU = torch.device("cpu")


def some(*shape, seed=0, zeros=0.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator) * (torch.rand(*shape, generator=generator) >= zeros)


FORMS = {
    "S": Form(some(24, 32), bias=some(24, seed=9)),
    "sparse S": Form(some(24, 32, zeros=0.9), scale=some(24, seed=8)),
    "UV": Form(left=some(24, 6, seed=1), right=some(6, 32, seed=2), scale=some(24, seed=8), bias=some(24, seed=9)),
    "S + UV": Form(some(24, 32, zeros=0.8), some(24, 6, seed=1), some(6, 32, seed=2), bias=some(24, seed=9)),
    "sparse UV": Form(left=some(24, 12, seed=1, zeros=0.7), right=some(12, 32, seed=2)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FORMS)
def test_every_kernel_gives_the_outputs_of_the_form(name, dtype):
    form, inputs = FORMS[name], some(3, 5, 32, seed=5)
    expected = F.linear(inputs, form.dense(), form.bias)
    offered = list(kernels(form, dtype, "auto", CPU))
    assert offered
    for kernel in offered:
        found = kernel.build(form, dtype)(inputs)
        error = float((found.float() - expected).norm() / expected.norm())
        exact = dtype is torch.float32 and not kernel.arithmetic.startswith("int8")
        assert found.dtype is dtype
        assert error < (1e-5 if exact else 0.03), kernel.name


def test_a_kernel_keeps_the_int8_codes_of_a_quantised_form():
    codes = torch.randint(-127, 128, (8, 16), generator=torch.Generator().manual_seed(0)).float()
    step = torch.linspace(0.1, 0.2, 8)
    form = Form(sparse=codes * step[:, None], sparse_step=step, scale=torch.linspace(-1, 1, 8))
    try:
        built = Kernel("int8").build(form, torch.float32)
    except (AttributeError, RuntimeError):
        pytest.skip("torch without oneDNN")
    assert torch.allclose(built.step, step * torch.linspace(-1, 1, 8).abs())


def names(form, choice="auto", dtype=torch.float32, device=CPU):
    return [kernel.name for kernel in kernels(form, dtype, choice, device)]


def test_csr_is_offered_where_a_matrix_is_half_zeros_and_a_composed_kernel_where_there_is_a_pair():
    assert "csr" not in names(FORMS["S"])
    assert "csr" in names(FORMS["sparse S"])
    assert "csr" in names(FORMS["sparse UV"])
    assert names(FORMS["UV"], "csr") == []
    assert not any("composed" in name for name in names(FORMS["S"]))
    assert "plain composed" in names(FORMS["UV"])


def test_off_the_cpu_nothing_of_onednn_is_offered():
    assert names(FORMS["S"], device=torch.device("cuda")) == []
    assert names(FORMS["UV"], device=torch.device("cuda")) == ["plain composed"]


def test_a_choice_offers_its_own_arithmetic_alone():
    for choice, allowed in ALLOWED.items():
        offered = {kernel.arithmetic for form in FORMS.values() for kernel in kernels(form, torch.float32, choice, CPU)}
        assert offered <= set(allowed)


def test_sparsity_is_the_share_of_zeros():
    assert sparsity(torch.tensor([[0.0, 1.0], [0.0, 0.0]])) == 0.75
