"""Convolutions as products over their windows: the same numbers, and only where windows do not overlap."""

import pytest
import torch
from torch import nn

from rcc.layers.form import Form
from rcc.layers.modules import FormConv
from rcc.runtime.kernels import Kernel
from rcc.runtime.patches import PatchKernel, has_patches


@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        (nn.Conv2d(3, 10, 4, 4), (2, 3, 8, 12)),
        (nn.Conv2d(3, 10, (2, 4), (2, 4), bias=False), (2, 3, 9, 15)),  # what does not fill a window is left out
        (nn.Conv2d(3, 10, 4, 4), (3, 8, 8)),
        (nn.Conv1d(5, 7, 3, 3), (2, 5, 10)),
    ],
)
def test_a_convolution_without_overlap_is_a_product(conv, shape):
    assert has_patches(conv)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    form = Form(sparse=conv.weight.detach().flatten(1), bias=None if conv.bias is None else conv.bias.detach())
    found = PatchKernel(Kernel("plain").build(form, torch.float32), conv.kernel_size)(inputs)
    assert torch.allclose(found, conv(inputs), atol=1e-6)


def test_a_low_rank_convolution_is_two_products():
    conv = nn.Conv2d(3, 10, 4, 4)
    form = Form(left=torch.randn(10, 5), right=torch.randn(5, 48), bias=torch.randn(10))
    module, inputs = FormConv(form, conv), torch.randn(2, 3, 8, 8)
    assert has_patches(module)
    found = PatchKernel(Kernel("plain").build(form, torch.float32), module.kernel_size)(inputs)
    assert torch.allclose(found, module(inputs), atol=1e-5)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(3, 8, 3, 3, padding=1),
        nn.Conv2d(3, 8, 2, 2, dilation=2),
        nn.Conv2d(4, 8, 2, 2, groups=2),
        nn.Linear(3, 8),
    ],
)
def test_other_layers_are_not(module):
    assert not has_patches(module)
