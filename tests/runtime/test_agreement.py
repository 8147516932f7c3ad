"""The two cosines, against numpy's and on cases whose answer is known."""

import numpy as np
import torch

from rcc.runtime.agreement import item_cosines, layer_cosine


def some(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_item_cosines_are_means_over_items_as_they_are_and_about_the_mean_item():
    reference, found = some(5, 3, 4).double(), some(5, 3, 4, seed=1).double()
    plain, centred = item_cosines({"a": found}, {"a": reference})
    x, y = found.reshape(5, 12).numpy(), reference.reshape(5, 12).numpy()
    assert np.isclose(plain, np.mean([cosine(x[i], y[i]) for i in range(5)]))
    mean = y.mean(0)
    assert np.isclose(centred, np.mean([cosine(x[i] - mean, y[i] - mean) for i in range(5)]))


def test_the_mean_item_looks_like_all_items_only_to_the_plain_cosine():
    reference = 10 + some(50, 64)
    alike = reference.mean(0).expand(50, 64) + 0.001 * some(50, 64, seed=1)
    plain, centred = item_cosines({"a": alike}, {"a": reference})
    assert plain > 0.99
    assert abs(centred) < 0.1


def test_one_item_is_compared_as_it_is_and_whole_numbers_not_at_all():
    reference = {"a": some(1, 8), "index": torch.tensor([3])}
    found = item_cosines({"a": 2 * reference["a"], "index": torch.tensor([4])}, reference)
    assert np.allclose(found, 1)


def test_nan_is_no_agreement():
    reference = {"a": some(4, 8)}
    found = reference["a"].clone()
    found[2, 3] = torch.nan
    assert not item_cosines({"a": found}, reference)[0] >= 0


def test_a_channel_that_is_always_large_hides_no_error_from_the_layer_cosine():
    reference = some(40, 16)
    reference[:, 0] += 1000
    wrong = reference.clone()
    wrong[:, 1:] = some(40, 15, seed=1)
    assert torch.nn.functional.cosine_similarity(wrong.flatten(), reference.flatten(), dim=0) > 0.9999
    assert layer_cosine(wrong, reference) < 0.3
    assert layer_cosine(reference + 1e-4, reference) > 0.999


def test_rows_that_are_all_alike_are_compared_as_they_are():
    reference = some(1, 8).expand(5, 8)
    assert layer_cosine(reference.bfloat16(), reference) > 0.9999
    assert layer_cosine(torch.zeros(5, 8), torch.zeros(5, 8)) == 1
    assert layer_cosine(torch.ones(5, 8), torch.zeros(5, 8)) == 0
