"""Rows times the weight are the module's own output, whatever its geometry."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import rcc.layers.input_rows as under_test
from rcc.layers.input_rows import geometry, input_rows
from rcc.layers.weight_layout import matrix_of

CONVOLUTIONS: list[dict[str, Any]] = [
    {"kernel_size": 3},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 2)},
    {"kernel_size": 3, "dilation": 2, "padding": 2},
    {"kernel_size": (4, 3), "padding": "same", "dilation": (1, 2)},
    {"kernel_size": 2, "padding": "valid", "stride": 2},
    {"kernel_size": 3, "groups": 2, "padding": 1},
    {"kernel_size": 3, "groups": 4},
]


@pytest.mark.filterwarnings("ignore:Using padding:UserWarning")
@pytest.mark.parametrize("options", CONVOLUTIONS)
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_patches_times_the_flattened_kernel_are_the_convolution(options, chunk, monkeypatch):
    monkeypatch.setattr(under_test, "CHUNK", chunk)
    torch.manual_seed(0)
    module, images = nn.Conv2d(4, 8, bias=False, **options), torch.randn(3, 4, 9, 8)
    rows = torch.cat(list(input_rows(module, images)), 1)
    weight = module.weight.flatten(1).unflatten(0, (module.groups, -1))
    outputs = (rows @ weight.mT).unflatten(1, (3, -1)).permute(1, 0, 3, 2).flatten(1, 2)
    torch.testing.assert_close(outputs, module(images).flatten(2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{"stride": 2, "padding": 1}, {"dilation": 2, "padding": "same"}])
def test_one_dimension_and_no_batch_dimension_work_too(options):
    torch.manual_seed(0)
    module, signal = nn.Conv1d(4, 8, 3, bias=False, **options), torch.randn(4, 11)
    (rows,) = input_rows(module, signal)
    torch.testing.assert_close((rows[0] @ module.weight.flatten(1).T).T, module(signal), rtol=0, atol=1e-5)


TRANSPOSED = [
    nn.ConvTranspose1d(4, 6, 3, bias=False),
    nn.ConvTranspose1d(4, 6, 2, stride=3, bias=False),
    nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), output_padding=(1, 0), bias=False),
    nn.ConvTranspose2d(4, 6, 3, stride=2, padding=2, dilation=(2, 1), bias=False),
    nn.ConvTranspose2d(4, 6, 1, padding=1, bias=False),
    nn.ConvTranspose2d(4, 6, 3, groups=2, stride=2, bias=False),
    nn.ConvTranspose3d(4, 6, 2, stride=2, bias=False),
    nn.Conv3d(4, 6, (3, 2, 1), stride=(2, 1, 1), padding=(1, 0, 2), dilation=(1, 2, 1), bias=False),
    nn.Conv3d(4, 6, 3, groups=2, padding="same", bias=False),
]


@pytest.mark.parametrize("module", TRANSPOSED, ids=str)
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_rows_times_the_matrix_are_the_output_of_transposed_and_deep_convolutions(module, chunk, monkeypatch):
    monkeypatch.setattr(under_test, "CHUNK", chunk)
    torch.manual_seed(0)
    images = torch.randn(3, 4, *[5, 4, 6][: len(module.kernel_size)])
    rows = torch.cat(list(input_rows(module, images)), 1)
    matrix = matrix_of(module, module.weight).unflatten(0, (module.groups, -1))
    outputs = (rows @ matrix.mT).unflatten(1, (3, -1)).permute(1, 0, 3, 2).flatten(1, 2)
    torch.testing.assert_close(outputs, module(images).flatten(2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(9, 7), (10, 8)])
def test_rows_of_a_transposed_convolution_are_of_the_size_its_caller_asked_for(size):
    torch.manual_seed(0)
    module, images = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, bias=False), torch.randn(3, 4, 5, 4)
    (rows,) = input_rows(module, images, size=size)
    outputs = (rows[0] @ matrix_of(module, module.weight).T).unflatten(0, (3, -1)).mT
    torch.testing.assert_close(outputs, module(images, output_size=size).flatten(2), rtol=0, atol=1e-5)


def test_a_mask_leaves_out_the_tokens_it_names_and_nothing_of_another_shape():
    module, inputs = nn.Linear(3, 2), torch.arange(24.0).view(2, 4, 3)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])
    (rows,) = input_rows(module, inputs, mask)
    assert torch.equal(rows[0], inputs[mask.bool()])
    (rows,) = input_rows(module, inputs[:, :3], mask)
    assert rows.shape == (1, 6, 3)
    (rows,) = input_rows(module, inputs[:, 0], mask)
    assert rows.shape == (1, 2, 3)


def test_geometry_tells_convolutions_of_one_input_apart():
    assert geometry(nn.Conv2d(3, 4, 3)) == geometry(nn.Conv2d(3, 9, 3))
    assert geometry(nn.Conv2d(3, 4, 3)) != geometry(nn.Conv2d(3, 4, 3, padding=1))
    assert geometry(nn.Linear(3, 4)) == geometry(nn.Linear(3, 5))
