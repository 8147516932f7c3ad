"""Forms on grids: which matrices take steps, and that rounding with feedback minimises the objective it is given."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rcc.layers.form import Form
from rcc.layers.grid import to_grid
from rcc.ops.quadratic import Quadratic
from rcc.ops.refit import refit_exact
from rcc.stages.quant.allocation import Grid
from rcc.stages.quant.rounding import nearest, stepped, with_feedback


def matrix(m: int, n: int, seed: int) -> Tensor:
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed))


def form_of(kind: str, seed: int = 0, zeros: float = 0.5) -> Form:
    """(12, 20): S, U V of rank 6, or both, with `zeros` of their values zero."""
    sizes = {"sparse": (12, 20), "left": (12, 6), "right": (6, 20)}
    names = {"S": ["sparse"], "UV": ["left", "right"], "S+UV": ["sparse", "left", "right"]}[kind]
    parts = {name: matrix(*sizes[name], seed + place) for place, name in enumerate(names)}
    return Form(**{name: part * (matrix(*part.shape, seed + 9).abs() > zeros) for name, part in parts.items()})


def problem_near(form: Form, seed: int = 0) -> Quadratic:
    """Correlated inputs, and outputs near those of the form."""
    width = form.shape[1]
    inputs = (matrix(200, 5, seed + 20) @ matrix(5, width, seed + 21) + 0.4 * matrix(200, width, seed + 22)).double()
    wanted = form.dense().double() + 0.1 * matrix(*form.shape, seed + 23).double()
    return Quadratic.around(wanted, inputs.T @ inputs / 200).damped(form.dense())


def evenly(form: Form, grid: Grid) -> dict[str, Grid]:
    return {name: grid for name, _ in form.matrices()}


@pytest.mark.parametrize("kind", ["S", "UV", "S+UV"])
@pytest.mark.parametrize("levels", [1, 3, 7, 127])
@pytest.mark.parametrize("storage", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("clip", ["absmax", "mse"])
def test_every_matrix_is_on_its_grid_and_zeros_stay_positive_zeros(kind, levels, storage, clip) -> None:
    form = form_of(kind)
    grid = Grid(levels, storage, clip)
    for rounded in (
        nearest(form, evenly(form, grid)),
        with_feedback(form, evenly(form, grid), problem_near(form)),
    ):
        steps = dict(rounded.steps())
        assert steps.keys() == dict(form.matrices()).keys()
        for name, before in form.matrices():
            after = getattr(rounded, name)
            assert after.dtype == steps[name].dtype == torch.float32
            assert torch.equal(steps[name].to(storage).float(), steps[name])
            assert int(to_grid(after, steps[name]).abs().max()) <= levels
            assert not bool(after[before == 0].any())
            assert not bool(torch.signbit(after[after == 0]).any())


def test_plain_rounding_takes_the_steps_of_the_largest_magnitudes() -> None:
    rounded = nearest(
        Form(sparse=torch.tensor([[1.0, -7.0, 3.4, 0.0], [0.0, 0.0, 0.0, 0.0]])),
        {"sparse": Grid(7, torch.float16, "absmax")},
    )
    assert rounded.sparse is not None
    assert rounded.sparse.tolist() == [[1.0, -7.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    assert rounded.sparse_step is not None
    assert rounded.sparse_step.tolist() == [1.0, 1.0]


@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["S", "UV", "S+UV"]), levels=st.sampled_from([3, 7, 31]))
@settings(deadline=None, max_examples=40)
def test_feedback_errs_less_than_the_nearest(seed: int, kind: str, levels: int) -> None:
    form = form_of(kind, seed)
    problem, grid = problem_near(form, seed), Grid(levels, torch.float16, "absmax")
    fed = problem.relative_error(with_feedback(form, evenly(form, grid), problem).dense())
    assert fed < problem.relative_error(nearest(form, evenly(form, grid)).dense())


def test_with_many_levels_a_sparse_matrix_nearly_reaches_the_minimum_on_its_support() -> None:
    form = form_of("S")
    assert form.sparse is not None
    problem = problem_near(form)
    least = problem.relative_error(refit_exact(problem, form.sparse != 0))
    rounded = with_feedback(form, {"sparse": Grid(127, torch.float16, "absmax")}, problem)
    assert problem.relative_error(form.dense()) > 1.5 * least
    assert problem.relative_error(rounded.dense()) < 1.02 * least


def test_each_matrix_makes_up_for_the_errors_of_those_rounded_before_it() -> None:
    """With three levels in V alone, U and S of many levels bring the error most of the way back."""
    form = form_of("S+UV", zeros=0.0)
    problem = problem_near(form)
    coarse = with_feedback(form, {"right": Grid(1, torch.float16, "mse")}, problem)
    fine = with_feedback(coarse, dict.fromkeys(("left", "sparse"), Grid(127, torch.float16, "absmax")), problem)
    assert torch.equal(coarse.right, fine.right)  # type: ignore[arg-type]
    assert problem.relative_error(fine.dense()) < 0.05 * problem.relative_error(coarse.dense())


def test_matrices_that_are_not_named_stay_as_they_are() -> None:
    form = form_of("S+UV")
    rounded = with_feedback(form, {"left": Grid(7, torch.float16, "absmax")}, problem_near(form))
    assert [name for name, _ in rounded.steps()] == ["left"]
    assert rounded.sparse is form.sparse
    assert rounded.right is form.right


def test_sixteen_bit_weights_take_steps_of_their_own_dtype() -> None:
    form = Form(sparse=torch.full((1, 4), 3e-6, dtype=torch.float16))
    rounded = nearest(form, {"sparse": Grid(127, torch.bfloat16, "absmax")})
    assert rounded.sparse_step is not None
    assert rounded.sparse_step.dtype == torch.float16
    assert float(rounded.sparse_step) > 0
    assert torch.equal(rounded.dense(), form.dense())


def test_matrices_are_stepped_where_that_takes_fewer_bytes() -> None:
    assert stepped({"sparse": (1000, 1000)}, 10, 2) == {"sparse": 10}  # 1020 bytes for 2000
    assert stepped({"left": (80, 80), "right": (40, 40)}, 40, 2) == {"right": 2}  # 80 + 80 for 160; 40 + 4 for 80
    assert stepped({"sparse": (400, 20)}, 10, 2) == {}  # 21 of gaps + 20 + 20 for 21 + 40
    assert stepped({"sparse": (400, 0)}, 10, 2) == {}
