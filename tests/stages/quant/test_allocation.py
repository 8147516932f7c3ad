"""Curves of bits and damage, their Lagrangian against all combinations, and the bytes that an allotment comes to."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from rcc.layers.encoding import encode
from rcc.layers.form import Form
from rcc.layers.grid import POWERS_PER_OCTAVE, to_grid
from rcc.ops.grid import LEVELS
from rcc.stages.quant.allocation import Allotment, Curve, Grid, Spaced, allocate, curve_of, row_sizes, steps_at
from rcc.stages.quant.rounding import nearest

FLOAT16 = torch.float16


def matrix(seed: int, rows: int = 300, columns: int = 64, zeros: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(rows, columns, generator=generator) * torch.rand(rows, 1, generator=generator)
    return found.masked_fill(torch.rand(rows, columns, generator=generator) < zeros, 0.0)


def curve(seed: int, weight: float = 1.0, zeros: float = 0.0) -> Curve:
    held = matrix(seed, zeros=zeros)
    return curve_of(held, torch.full((len(held),), weight), torch.ones(held.shape[1]), FLOAT16)


def test_steps_lie_on_the_grid_and_no_value_is_cut_off() -> None:
    held = matrix(0)
    held[3] = 0.0
    held[4, 0] = 1e3
    for factor in (0.001, 0.1, 2.0):
        steps = steps_at(held, row_sizes(held), factor, FLOAT16)
        exponents = steps.double().log2() * POWERS_PER_OCTAVE
        assert float((exponents - exponents.round()).abs().max()) < 0.01  # as float16 holds them
        assert float(steps[3]) == 1.0
        assert bool((held.abs().amax(1) <= steps * (LEVELS + 0.5)).all())


def test_a_curve_falls_in_bits_and_rises_in_damage_and_tells_what_rounding_makes() -> None:
    held, found = matrix(1, zeros=0.3), curve(1, weight=3.0, zeros=0.3)
    assert bool((np.diff(found.bits) <= 0).all())
    assert bool((np.diff(found.damage) >= 0).all())
    assert found.bits[0] > 6 * held.numel() * 0.7 > 0 == found.bits[-1]
    for place in (4, 8, 11):
        log = found.log_factors[place]
        form = nearest(Form(sparse=held), {"sparse": Spaced(2.0**log, found.rate_at(log), FLOAT16)})
        assert form.sparse is not None
        # The codes of what came out are a little shorter for zeros than those that were decided by.
        assert found.damage[place] == pytest.approx(0.5 * 3.0 * float((form.sparse - held).square().sum()), rel=0.1)
        assert form.sparse_step is not None
        coded = encode(to_grid(form.sparse, form.sparse_step), "zstd").nbytes
        assert found.bits[place] == pytest.approx(8 * coded, rel=0.05)
        assert not bool(form.sparse[held == 0].any())


def test_a_large_table_is_measured_on_the_rows_that_count_and_some_of_the_others() -> None:
    held = matrix(5, rows=30_000, columns=16)
    costs = torch.rand(30_000, generator=torch.Generator().manual_seed(6)) * 1e-3
    costs[[7, 400, 29_999]] = 50.0
    found = curve_of(held, costs, torch.ones(16), FLOAT16)
    for place in (6, 10):
        log = found.log_factors[place]
        form = nearest(Form(sparse=held), {"sparse": Spaced(2.0**log, found.rate_at(log), FLOAT16)})
        assert form.sparse is not None
        assert form.sparse_step is not None
        errors = (form.sparse - held).square().sum(1)
        assert found.damage[place] == pytest.approx(0.5 * float((costs * errors).sum()), rel=0.1)
        coded = encode(to_grid(form.sparse, form.sparse_step), "zstd").nbytes
        assert found.bits[place] == pytest.approx(8 * coded, rel=0.06)


def test_the_allocation_is_the_best_of_all_combinations_of_that_many_bits() -> None:
    curves = {"a": curve(1, 1.0), "b": curve(2, 30.0), "c": curve(3, 0.02)}
    bits = 0.4 * sum(float(one.bits[0]) for one in curves.values())
    found = allocate(curves, bits)
    assert sum(curves[name].bits_at(log) for name, log in found.items()) == pytest.approx(bits, rel=1e-3)

    def damage(logs: dict[str, float]) -> float:
        return sum(float(np.interp(log, curves[name].log_factors, curves[name].damage)) for name, log in logs.items())

    points = np.linspace(-5, 3, 41)
    for choice in product(points, repeat=3):
        other = dict(zip(curves, map(float, choice), strict=True))
        if sum(curves[name].bits_at(log) for name, log in other.items()) <= bits:
            assert damage(found) <= 1.1 * damage(other)
    assert found["b"] < found["a"] < found["c"]


@pytest.mark.parametrize("nbytes", [4_000, 12_000, 30_000])
def test_an_allotment_comes_to_the_bytes_due_though_each_unit_takes_more_than_its_curve_says(nbytes: int) -> None:
    forms = {name: Form(sparse=matrix(seed)) for seed, name in enumerate("abcd")}
    allotment = Allotment({(name, "sparse"): curve(seed) for seed, name in enumerate("abcd")}, nbytes, FLOAT16)
    taken = 0
    for name, form in forms.items():

        def round_with(grids, form=form):
            # As feedback does, with values that errors made larger.
            return nearest(Form(sparse=form.sparse * 1.2), grids)

        _, own = allotment.rounded(name, ["sparse"], Grid(7, FLOAT16, "absmax"), round_with)
        taken += own
    assert allotment.taken == taken
    assert taken == pytest.approx(nbytes, rel=0.02)


def test_a_matrix_without_a_curve_is_rounded_evenly_and_the_others_get_what_it_leaves() -> None:
    allotment = Allotment({("b", "sparse"): curve(1)}, 12_000, FLOAT16)
    even = Grid(7, FLOAT16, "absmax")
    found, first = allotment.rounded("a", ["sparse"], even, lambda grids: nearest(Form(sparse=matrix(0)), grids))
    assert found.sparse_step is not None
    assert torch.equal(found.sparse_step, even.steps(matrix(0)))
    _, second = allotment.rounded("b", ["sparse"], even, lambda grids: nearest(Form(sparse=matrix(1)), grids))
    assert first + second == pytest.approx(12_000, rel=0.02)


def test_where_no_bits_are_planned_at_all_a_unit_is_rounded_as_coarsely_as_can_be() -> None:
    held = Form(sparse=torch.zeros(20, 8))
    empty = curve_of(torch.zeros(20, 8), torch.ones(20), torch.ones(8), FLOAT16)
    allotment = Allotment({("a", "sparse"): empty}, 1, FLOAT16)
    found, _ = allotment.rounded("a", ["sparse"], Grid(7, FLOAT16, "absmax"), lambda grids: nearest(held, grids))
    assert found.sparse is not None
    assert not bool(found.sparse.any())
