"""The triangle of a symmetric product and its eigenvectors, against numpy."""

import numpy as np
import pytest
import torch

from rcc.ops.symmetric import add_gram_, descending_eigh, lower_triangle, mirror_


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 13, 40])
def test_the_triangle_is_that_of_the_whole_product(size):
    left = torch.randn(size, 9, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    product = lower_triangle(left, left.T)
    np.testing.assert_allclose(product.tril().numpy(), np.tril(left.numpy() @ left.numpy().T), rtol=1e-12, atol=1e-12)


def test_eigenvalues_descend_and_only_the_lower_triangle_is_read():
    matrix = torch.tensor([[2.0, float("nan")], [1.0, 2.0]], dtype=torch.float64)
    values, vectors = descending_eigh(matrix)
    torch.testing.assert_close(values, torch.tensor([3.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(vectors[:, 0].abs(), torch.full((2,), 0.5, dtype=torch.float64).sqrt())


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 13, 40])
def test_products_of_columns_added_part_by_part_and_mirrored_are_the_whole_gram_matrix(size):
    rows = torch.randn(21, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    total = torch.zeros(size, size, dtype=torch.float64)
    for part in rows.split(8):
        add_gram_(total, part, 0.25)
    np.testing.assert_allclose(mirror_(total).numpy(), rows.numpy().T @ rows.numpy() / 4, rtol=1e-12, atol=1e-12)
