"""Trimming: the least level that is enough, numbers that grow only by a margin, mantissas cut short."""

from __future__ import annotations

import pytest
import torch

from rcc.learning.trimming import least_level, with_fewer_raised, with_shorter_mantissas


@pytest.mark.parametrize(("enough", "found"), [(0.0, 0.0), (0.5, 0.5), (0.3, 39 / 128), (1.0, 1.0), (2.0, 1.0)])
def test_the_least_level_that_is_enough_is_asked_for_last(enough: float, found: float) -> None:
    asked: list[float] = []

    def fits(level: float) -> bool:
        asked.append(level)
        return level >= enough

    assert least_level(fits) == found
    assert asked[-1] == found


def test_a_number_grows_only_where_its_latent_is_beyond_the_border_by_the_margin() -> None:
    before = torch.tensor([[1, 1, 1, -1, 2, 2, 0, 3]], dtype=torch.int8)
    latent = torch.tensor([[1.6, 1.8, 0.2, -1.6, 1.4, 2.4, 0.9, 5.0]])
    assert with_fewer_raised(latent, before, 0.0).tolist() == [[2, 2, 0, -2, 1, 2, 0, 3]]
    assert with_fewer_raised(latent, before, 0.2).tolist() == [[1, 2, 0, -1, 1, 2, 0, 3]]
    assert with_fewer_raised(latent, before, 0.99).tolist() == [[1, 1, 0, -1, 1, 2, 0, 3]]
    assert not bool(torch.signbit(with_fewer_raised(-latent, before, 0.5))[0, 2])


@pytest.mark.parametrize("storage", [torch.float16, torch.bfloat16, torch.float32])
def test_cut_mantissas_are_near_and_end_in_zero_bits(storage: torch.dtype) -> None:
    values = torch.randn(200, generator=torch.Generator().manual_seed(0)).to(storage).float()
    assert torch.equal(with_shorter_mantissas(values, 0.0, storage), values)
    cut = with_shorter_mantissas(values, 0.5, storage)  # three bits
    bits = cut.to(storage).view(torch.int32 if storage is torch.float32 else torch.int16)
    assert not bool((bits & 0b111).any())
    assert float(((cut - values) / values).abs().max()) <= 4.001 * torch.finfo(storage).eps
    largest = torch.tensor([torch.finfo(storage).max])
    assert bool(torch.isfinite(with_shorter_mantissas(largest, 1.0, storage).to(storage)).all())
