"""The quadratic of a layer's output error against the outputs themselves, and its minimum against least squares."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rcc.ops.quadratic import Quadratic

ROWS, OUT, IN = 50, 3, 5


def data(seed: int = 0, rank: int = IN) -> tuple[Tensor, Tensor]:
    """Inputs (rows, in) of that rank and outputs (rows, out) that are not linear in them."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(ROWS, rank, generator=generator, dtype=torch.float64)
    inputs = inputs @ torch.randn(rank, IN, generator=generator, dtype=torch.float64)
    return inputs, torch.randn(ROWS, OUT, generator=generator, dtype=torch.float64)


def of_rows(inputs: Tensor, outputs: Tensor) -> Quadratic:
    rows = len(inputs)
    return Quadratic(inputs.T @ inputs / rows, outputs.T @ inputs / rows, outputs.square().mean(0))


def weights(seed: int) -> Tensor:
    return torch.randn(OUT, IN, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 1000))
def test_the_error_of_any_weight_is_that_of_its_outputs(seed):
    inputs, outputs = data(seed)
    problem, weight = of_rows(inputs, outputs), weights(seed + 1)
    wanted = (outputs - inputs @ weight.T).square().mean(0)
    torch.testing.assert_close(problem.error(weight), wanted)
    assert problem.relative_error(weight) == pytest.approx(float(wanted.sum() / outputs.square().mean(0).sum()))


def test_the_solution_is_that_of_least_squares():
    inputs, outputs = data()
    torch.testing.assert_close(of_rows(inputs, outputs).solution, torch.linalg.lstsq(inputs, outputs).solution.T)


def test_around_a_weight_the_weight_itself_has_no_error_and_others_that_of_their_outputs():
    inputs, _ = data()
    weight, other = weights(1), weights(2)
    problem = Quadratic.around(weight, inputs.T @ inputs / ROWS)
    assert problem.error(weight).tolist() == pytest.approx([0.0] * OUT, abs=1e-12)
    torch.testing.assert_close(problem.error(other), (inputs @ (weight - other).T).square().mean(0))


@given(st.integers(0, 1000), st.floats(1e-3, 10))
def test_damping_adds_the_distance_to_a_weight_in_units_of_the_inputs(seed, share):
    inputs, outputs = data(seed)
    problem, near, weight = of_rows(inputs, outputs), weights(seed + 1), weights(seed + 2)
    added = share * inputs.square().mean() * (weight - near).square().sum(1)
    torch.testing.assert_close(problem.damped(near, share).error(weight), problem.error(weight) + added)


def test_what_inputs_do_not_tell_the_weight_nearby_decides():
    near = weights(1)
    zero = Quadratic(
        torch.zeros(IN, IN, dtype=torch.float64), torch.zeros(OUT, IN, dtype=torch.float64), torch.zeros(OUT)
    )
    torch.testing.assert_close(zero.damped(near).solution, near)
    inputs, outputs = data(rank=2)
    solution = of_rows(inputs, outputs).damped(near, 1e-6).solution
    unseen = torch.linalg.svd(inputs).Vh[2:]  # directions that no input has a part in
    torch.testing.assert_close(solution @ unseen.T, near @ unseen.T)


def test_damping_grows_until_the_moment_is_definite():
    near = weights(1)
    moment = torch.diag(torch.tensor([1.0, 1.0, 1.0, 1.0, -0.05], dtype=torch.float64))  # as rounding may leave it
    problem = Quadratic.around(near, moment)
    found = problem.definite(near, 0.001)
    assert float(found.moment[0, 0]) == pytest.approx(1 + 0.1 * float(moment.diagonal().mean()))
    torch.testing.assert_close(found.solution, near)


def test_a_moment_that_no_damping_makes_definite_is_an_error():
    moment = torch.diag(torch.tensor([1.0, 1.0, 1.0, 1.0, -3.9], dtype=torch.float64))
    with pytest.raises(torch.linalg.LinAlgError):
        Quadratic.around(weights(1), moment).definite(weights(1))


def test_rounding_below_zero_is_cut_off_and_nothing_to_reproduce_is_no_error():
    one = Quadratic(torch.eye(IN), torch.zeros(OUT, IN), torch.full((OUT,), -1e-9, dtype=torch.float64))
    assert one.error(torch.zeros(OUT, IN)).tolist() == [0.0] * OUT
    assert one.relative_error(torch.zeros(OUT, IN)) == 0.0


def test_a_change_of_dtype_leaves_the_energy_in_float64():
    narrow = of_rows(*data()).to(torch.float32)
    assert (narrow.moment.dtype, narrow.cross.dtype, narrow.energy.dtype) == (
        torch.float32,
        torch.float32,
        torch.float64,
    )


def test_shrinking_keeps_the_diagonal_and_draws_the_rest_towards_it_the_more_the_fewer_inputs_there_are() -> None:
    inputs, outputs = data()
    problem, near = of_rows(inputs, outputs), weights(1)
    off = ~torch.eye(IN, dtype=torch.bool)
    shares = []
    for count in (5.0, 50.0, 5e6):
        shrunk = problem.shrunk(near, count)
        torch.testing.assert_close(shrunk.diagonal, problem.diagonal)
        parts = shrunk.moment[off] / problem.moment[off]
        torch.testing.assert_close(parts, parts[:1].expand_as(parts))
        shares.append(1 - float(parts[0]))
        # What goes to the diagonal counts from the weight it was shrunk near.
        own = shares[-1] * ((weights(2) - near).square() * problem.diagonal).sum(1)
        torch.testing.assert_close(
            shrunk.error(weights(2)), (1 - shares[-1]) * problem.error(weights(2)) + own, rtol=1e-6, atol=1e-9
        )
    assert 1 >= shares[0] > shares[1] > shares[2] > 0
    assert shares[2] < 1e-5


def test_the_share_shrunk_is_that_of_the_oracle_approximation() -> None:
    inputs, outputs = data()
    problem = of_rows(inputs, outputs)
    scale = problem.diagonal.rsqrt()
    squares = float((problem.moment * scale[:, None] * scale).square().sum())
    wanted = ((1 - 2 / IN) * squares + IN**2) / ((40 + 1 - 2 / IN) * (squares - IN))
    shrunk = problem.shrunk(weights(1), 40)
    assert 1 - float(shrunk.moment[0, 1] / problem.moment[0, 1]) == pytest.approx(wanted, rel=1e-9)


def test_shrinking_goes_group_by_group() -> None:
    problems = [of_rows(*data(seed)) for seed in (1, 2)]
    both = Quadratic(
        torch.stack([one.moment for one in problems]),
        torch.cat([one.cross for one in problems]),
        torch.cat([one.energy for one in problems]),
    )
    shrunk = both.shrunk(torch.cat([weights(1), weights(2)]), 30)
    for place, (one, seed) in enumerate(zip(problems, (1, 2), strict=True)):
        alone = one.shrunk(weights(seed), 30)
        torch.testing.assert_close(shrunk.moment[place], alone.moment)
        torch.testing.assert_close(shrunk.cross.view(2, OUT, IN)[place], alone.cross)
