"""The form's modules against torch's own with the composed weight, in double precision."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rcc.layers.form import Form
from rcc.layers.modules import FormConv, FormEmbedding, FormLinear
from rcc.layers.weight_layout import matrix_of, weight_of

PARTS = [("sparse",), ("left", "right"), ("sparse", "left", "right"), ("sparse", "scale"),
         ("sparse", "left", "right", "scale")]  # fmt: skip


def random_form(outputs: int, inputs: int, parts: tuple[str, ...], bias: bool, rank: int = 2) -> Form:
    draw = torch.Generator().manual_seed(outputs + inputs + len(parts))
    shapes = {"sparse": (outputs, inputs), "left": (outputs, rank), "right": (rank, inputs), "scale": (outputs,)}
    tensors = {name: torch.randn(shapes[name], generator=draw, dtype=torch.float64) for name in parts}
    if bias:
        tensors["bias"] = torch.randn(outputs, generator=draw, dtype=torch.float64)
    return Form(**tensors)


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("parts", PARTS)
def test_linear_equals_the_dense_product(parts: tuple[str, ...], bias: bool) -> None:
    form = random_form(5, 7, parts, bias)
    module = FormLinear(form)
    batch = torch.randn(2, 3, 7, dtype=torch.float64)
    assert_same(module(batch), nn.functional.linear(batch, form.dense(), form.bias))
    assert_same(module.weight, form.dense())
    assert (module.out_features, module.in_features) == (5, 7)


CONVOLUTIONS = [
    nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2),
    nn.Conv1d(4, 6, 3, padding="same"),
    nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 1)),
    nn.Conv2d(4, 6, 3, padding="valid", dilation=(1, 2)),
    nn.Conv2d(4, 6, 3, groups=2, padding=1),
    nn.Conv3d(4, 6, (3, 1, 2), stride=(1, 2, 1), padding=1),
    nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1),
    nn.ConvTranspose2d(4, 6, (3, 2), stride=(1, 2), dilation=(2, 1)),
    nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
    nn.ConvTranspose3d(4, 6, 2, stride=2),
]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("like", CONVOLUTIONS, ids=str)
def test_convolution_equals_torchs(like: Any, parts: tuple[str, ...], bias: bool) -> None:
    form = random_form(6, like.weight.numel() // 6, parts, bias)
    if like.groups > 1 and form.left is not None:
        with pytest.raises(ValueError, match="block diagonal"):
            FormConv(form, like)
        return
    module = FormConv(form, like)
    plain = copy.deepcopy(like)
    plain.weight = nn.Parameter(weight_of(like, form.dense()))
    assert plain.weight.shape == like.weight.shape
    assert torch.equal(matrix_of(like, plain.weight), form.dense())
    plain.bias = None if form.bias is None else nn.Parameter(form.bias)
    batch = torch.randn(2, 4, *[9] * len(like.kernel_size), dtype=torch.float64)
    assert_same(module(batch), plain(batch))
    assert_same(module(batch[0]), plain(batch[0]))
    assert_same(module.weight, plain.weight)


def test_a_transposed_convolution_takes_the_size_of_its_output() -> None:
    like = nn.ConvTranspose2d(4, 6, 3, stride=2, dtype=torch.float64)
    form = random_form(6, 36, ("left", "right"), bias=True)
    module, plain, batch = FormConv(form, like), copy.deepcopy(like), torch.randn(2, 4, 5, 5, dtype=torch.float64)
    plain.weight, plain.bias = nn.Parameter(weight_of(like, form.dense())), nn.Parameter(form.bias)
    assert_same(module(batch, output_size=[12, 11]), plain(batch, output_size=[12, 11]))
    with pytest.raises(ValueError, match="valid sizes"):
        module(batch, output_size=[13, 11])


@pytest.mark.parametrize("parts", PARTS)
def test_embedding_equals_rows_of_the_dense_matrix(parts: tuple[str, ...]) -> None:
    form = random_form(9, 4, parts, bias=False)
    module = FormEmbedding(form, nn.Embedding(9, 4, padding_idx=3))
    rows = torch.tensor([[0, 3, 8], [8, 1, 1]])
    assert_same(module(rows), form.dense()[rows])
    assert (module.num_embeddings, module.embedding_dim, module.padding_idx) == (9, 4, 3)


def test_absent_parts_are_in_no_state_dict_and_gradients_reach_the_rest() -> None:
    module = FormLinear(random_form(3, 4, ("left", "right", "scale"), bias=True))
    assert list(module.state_dict()) == ["left", "right", "scale", "bias"]
    module(torch.ones(1, 4, dtype=torch.float64)).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_module_shares_the_tensors_it_is_given() -> None:
    form = random_form(3, 4, ("sparse", "left", "right"), bias=True)
    module = FormLinear(form)
    for name, matrix in form.matrices():
        assert getattr(module, name).data_ptr() == matrix.data_ptr()


def test_steps_are_buffers_that_travel_with_the_module() -> None:
    steps = {"left_step": torch.tensor([0.5, 1.0, 2.0]), "right_step": torch.tensor([1.0, 0.25])}
    module = FormLinear(Form(left=torch.ones(3, 2), right=torch.ones(2, 4), **steps))
    assert list(module.state_dict()) == ["left", "right", "left_step", "right_step"]
    assert {name for name, _ in module.named_parameters()} == {"left", "right"}
    assert module.form.sparse_step is None
    assert torch.equal(module.form.left_step, steps["left_step"])
    assert module.to(torch.float16).form.right_step.dtype == torch.float16
