"""Operations against counts made by hand, for a block of a vision transformer and for each kernel."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rcc.layers.form import Form
from rcc.layers.modules import FormConv, FormLinear
from rcc.layers.units import find_units
from rcc.runtime.flops import executed_flops, theoretical_flops
from rcc.runtime.kernels import Kernel
from rcc.runtime.products import has_int8, packs

WIDTH, HEADS, HIDDEN, TOKENS, ITEMS = 16, 4, 64, 10, 3
ROWS = ITEMS * TOKENS


class Block(nn.Module):
    """Attention and an MLP, each with a norm and a residual."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.fc1, self.fc2 = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x):
        y = self.norms[0](x)
        heads = (layer(y).unflatten(-1, (HEADS, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = x + self.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.norms[1](x))))


ATTENTION = 2 * 2 * ITEMS * TOKENS * TOKENS * WIDTH  # q kᵀ and its product with v
LINEAR = 2 * ROWS * (4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN)


@pytest.fixture
def block():
    return Block().eval()


def run_of(module, *shape):
    inputs = torch.randn(*shape)
    return lambda: module(inputs)


def test_a_transformer_block_has_the_operations_counted_by_hand(block):
    run = run_of(block, ITEMS, TOKENS, WIDTH)
    assert executed_flops(run) == LINEAR + ATTENTION
    assert theoretical_flops(run, find_units(block)) == LINEAR + ATTENTION


def test_zeros_are_executed_and_left_out_in_theory(block):
    block.fc1.weight.data.flatten()[: WIDTH * HIDDEN * 3 // 4] = 0
    run = run_of(block, ITEMS, TOKENS, WIDTH)
    assert executed_flops(run) == LINEAR + ATTENTION
    without = LINEAR + ATTENTION - 2 * ROWS * WIDTH * HIDDEN * 3 // 4
    assert theoretical_flops(run, find_units(block)) == without


def test_a_low_rank_pair_counts_both_factors_and_their_zeros(block):
    left, right = torch.ones(HIDDEN, 5), torch.ones(5, WIDTH)
    right[0] = 0
    block.fc1 = FormLinear(Form(left=left, right=right, bias=torch.zeros(HIDDEN)))
    run = run_of(block, ITEMS, TOKENS, WIDTH)
    executed = LINEAR + ATTENTION - 2 * ROWS * WIDTH * HIDDEN + 2 * ROWS * 5 * (WIDTH + HIDDEN)
    assert executed_flops(run) == executed
    assert theoretical_flops(run, find_units(block)) == executed - 2 * ROWS * WIDTH


def test_convolutions_count_every_place_they_are_multiplied_at():
    plain = nn.Conv2d(3, 8, 4, 4)
    plain.weight.data[0] = 0
    net = nn.Sequential(plain)
    run = run_of(net, 2, 3, 8, 8)
    assert executed_flops(run) == 2 * 2 * 4 * 8 * 48
    assert theoretical_flops(run, find_units(net)) == 2 * 2 * 4 * 7 * 48
    left = torch.ones(8, 2)
    left[:4] = 0
    net = nn.Sequential(FormConv(Form(left=left, right=torch.ones(2, 48)), plain))
    run = run_of(net, 2, 3, 8, 8)
    assert executed_flops(run) == 2 * 2 * 4 * 2 * (8 + 48)
    assert theoretical_flops(run, find_units(net)) == 2 * 2 * 4 * (8 + 2 * 48)


def test_each_kernel_is_counted():
    matrix = torch.ones(12, 16)
    matrix[:, 4:] = 0
    form = Form(sparse=matrix, bias=torch.ones(12))
    whole = 2 * 6 * 12 * 16
    expected = {"plain": whole, "csr": whole // 4}
    if packs(torch.float32):
        expected["packed"] = whole
    if has_int8():
        expected |= {"int8": whole, "int8 by row": whole}
    for name, count in expected.items():
        assert executed_flops(run_of(Kernel(name).build(form, torch.float32), 2, 3, 16)) == count, name


def test_zeros_of_a_transposed_convolution_are_counted_at_the_pixels_given():
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False)).eval()
    run = run_of(model, 2, 4, 5, 5)
    assert executed_flops(run) == 2 * 2 * 25 * 4 * 6 * 9
    model[0].weight.data[:2] = 0
    assert theoretical_flops(run, find_units(model)) == 2 * 2 * 25 * 2 * 6 * 9
