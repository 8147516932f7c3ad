"""Each product against an independent computation: integers by hand, scipy's sparse rows, torch's own linear."""

import numpy as np
import pytest
import scipy.sparse
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from rcc.runtime.products import CsrProduct, Int8Product, PackedProduct, TorchProduct, has_int8, packs, row_steps

needs_int8 = pytest.mark.skipif(not has_int8(), reason="torch without oneDNN")
BOTH = pytest.mark.parametrize("by_row", [False, True])


def some(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(matrix, bias, inputs):
    """The int8 product in numpy's integers: steps of the weight's rows, one step of the whole input."""
    weight, x = matrix.double().numpy(), inputs.double().numpy()
    step = np.abs(weight).max(1) / 127
    codes = np.rint(weight / step[:, None]).astype(np.int64)
    inverse = 127 / np.abs(x).max()
    sums = np.rint(x * inverse).astype(np.int64) @ codes.T
    return sums * step / inverse + bias.double().numpy()


@needs_int8
def test_int8_is_the_sum_of_whole_numbers_times_both_steps():
    matrix, bias, inputs = some(24, 40), some(24, seed=1), some(7, 40, seed=2)
    found = Int8Product(matrix, bias, torch.float32)(inputs)
    assert np.allclose(found.double().numpy(), by_hand(matrix, bias, inputs), rtol=1e-5, atol=1e-5)


@needs_int8
@BOTH
@given(out=st.integers(1, 20), width=st.integers(1, 70), rows=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_int8_errs_by_no_more_than_half_a_step_of_each_factor(by_row, out, width, rows, seed):
    matrix, inputs = some(out, width, seed=seed), some(rows, width, seed=seed + 1)
    found = Int8Product(matrix, None, torch.float32, by_row=by_row)(inputs)
    weight_step = row_steps(matrix)
    size = inputs.abs().amax(1) if by_row else inputs.abs().max().expand(rows)
    input_step = (size / 126.5)[:, None]
    bound = (
        inputs.abs().sum(1)[:, None] * weight_step / 2
        + input_step * matrix.abs().sum(1) / 2
        + width * input_step * weight_step / 4
    )
    assert bool(((found - inputs @ matrix.T).abs() <= 1.001 * bound + 1e-6).all())


@needs_int8
def test_a_grid_that_is_stored_is_used_as_it_is():
    codes = torch.randint(-127, 128, (16, 32), generator=torch.Generator().manual_seed(0))
    codes[:, 0] = 64  # so that the largest of a row need not be 127
    step = torch.linspace(0.01, 0.02, 16)
    whole_inputs = torch.randint(-127, 128, (5, 32), generator=torch.Generator().manual_seed(1)).float()
    whole_inputs[0, 0] = 127  # the input's own step is then 1
    product = Int8Product(codes * step[:, None], None, torch.float32, step)
    expected = (whole_inputs.double() @ codes.double().T * step.double()).float()
    assert torch.allclose(product(whole_inputs), expected, rtol=1e-6)


@needs_int8
@BOTH
def test_a_row_of_zeros_has_step_one_and_gives_its_bias(by_row):
    matrix, bias = some(4, 8), torch.tensor([1.0, 2.0, 3.0, 4.0])
    matrix[2] = 0
    product = Int8Product(matrix, bias, torch.float32, by_row=by_row)
    assert product.step[2] == 1
    assert product(some(3, 8, seed=3))[:, 2].tolist() == [3.0, 3.0, 3.0]


@needs_int8
@BOTH
def test_an_input_of_zeros_gives_the_bias(by_row):
    bias = some(6)
    product = Int8Product(some(6, 8, seed=1), bias, torch.float32, by_row=by_row)
    assert torch.equal(product(torch.zeros(2, 3, 8)), bias.expand(2, 3, 6))


@needs_int8
@BOTH
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_an_input_that_is_not_finite_does_not_come_out_finite(by_row, value):
    inputs = some(3, 8)
    inputs[1, 4] = value
    assert not torch.isfinite(Int8Product(some(6, 8, seed=1), some(6), torch.float32, by_row=by_row)(inputs)[1]).any()


@needs_int8
def test_by_row_an_outlier_leaves_the_other_rows_as_they_were():
    matrix, calm = some(16, 32), some(5, 32, seed=1)
    wild = calm.clone()
    wild[3] *= 1000
    by_row, at_once = (Int8Product(matrix, None, torch.float32, by_row=each) for each in (True, False))
    others = [0, 1, 2, 4]
    assert torch.equal(by_row(wild)[others], by_row(calm)[others])
    exact = calm[others] @ matrix.T
    assert (at_once(wild)[others] - exact).norm() > 10 * (by_row(wild)[others] - exact).norm()


@needs_int8
@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_takes_any_leading_dimensions_and_gives_the_dtype_asked_for(by_row, dtype):
    matrix, bias, inputs = some(12, 16), some(12, seed=1), some(2, 3, 16, seed=2)
    found = Int8Product(matrix, bias, dtype, by_row=by_row)(inputs[:, ::2])
    exact = F.linear(inputs[:, ::2], matrix, bias)
    assert (found.dtype, found.shape) == (dtype, (2, 2, 12))
    assert (found.float() - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("bias", [None, some(30, seed=4)])
def test_sparse_rows_are_those_of_scipy(bias):
    matrix = some(30, 50)
    matrix[torch.rand(30, 50, generator=torch.Generator().manual_seed(1)) < 0.9] = 0
    inputs = some(2, 4, 50, seed=2)
    product = CsrProduct(matrix, bias, torch.float32)
    expected = (scipy.sparse.csr_matrix(matrix.numpy()) @ inputs.reshape(-1, 50).numpy().T).T.reshape(2, 4, 30)
    if bias is not None:
        expected = expected + bias.numpy()
    found = product(inputs)
    assert found.is_contiguous()
    assert np.allclose(found.numpy(), expected, atol=1e-5)
    assert product.rows._nnz() == int(torch.count_nonzero(matrix))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [TorchProduct, PackedProduct])
@pytest.mark.parametrize("bias", [None, some(24, seed=1)])
def test_plain_and_packed_products_are_torch_linear_in_their_dtype(kind, dtype, bias):
    if kind is PackedProduct and not packs(dtype):
        pytest.skip("oneDNN lacks it here")
    matrix, inputs = some(24, 40), some(3, 5, 40, seed=2)
    found = kind(matrix, bias, dtype)(inputs)
    expected = F.linear(inputs, matrix, bias)
    assert found.dtype is dtype
    assert (found.float() - expected).norm() < (1e-6 if dtype is torch.float32 else 1e-2) * expected.norm()


def test_sixteen_bit_floats_of_the_other_kind_are_not_packed():
    assert not packs(torch.float16)
    assert not packs(torch.float64)
