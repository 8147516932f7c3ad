"""Round a matrix to whole bits a row: to nearest with steps of least squared error, and with feedback as GPTQ does.

Shapes: R rows (outputs), P columns (inputs).
"""

from __future__ import annotations

import torch
from torch import Tensor

CLIPS = 40
DAMPING = 0.01
BLOCK = 128


def levels_of(bits: int) -> int:
    """The largest whole number of a symmetric grid: 1 for 2 bits, 127 for 8."""
    return 2 ** (bits - 1) - 1


def clipped_steps(matrix_RP: Tensor, bits: int) -> Tensor:
    """(R,) steps: of `CLIPS` shares of the row's largest value, down to a fifth, that of least squared error. Steps are
    values of float16, as the artifact stores them."""
    levels = levels_of(bits)
    largest = matrix_RP.abs().amax(1).clamp_min(1e-6 * levels)
    best = torch.full_like(largest, torch.inf)
    steps = largest / levels
    for clip in range(CLIPS):
        step = (largest / levels * (1 - 0.8 * clip / CLIPS)).half().float().clamp_min(1e-7)
        error = (nearest(matrix_RP, step, bits) * step[:, None] - matrix_RP).square().sum(1)
        steps, best = torch.where(error < best, step, steps), torch.minimum(error, best)
    return steps


def nearest(matrix_RP: Tensor, step_R: Tensor, bits: int) -> Tensor:
    """(R, P) whole numbers, as floats."""
    return (matrix_RP / step_R[:, None]).round_().clamp_(-levels_of(bits), levels_of(bits))


def with_feedback(matrix_RP: Tensor, step_R: Tensor, bits: int, moments_GPP: Tensor) -> Tensor:
    """(R, P) whole numbers, column after column, the error of each made up for by the columns after it.

    Rows of group g of a grouped convolution take the moment of their own inputs.
    Source: Frantar et al., "GPTQ", 2023, algorithm 1, damped by 1 % of the mean of the diagonal; inputs are those of
    the dense model.
    """
    groups, size = moments_GPP.shape[0], matrix_RP.shape[1]
    rest = matrix_RP.float().clone().view(groups, -1, size)
    step = step_R.view(groups, -1)
    codes = torch.zeros_like(rest)
    factor = inverse_factor(moments_GPP)
    levels = levels_of(bits)
    for first in range(0, size, BLOCK):
        end = min(first + BLOCK, size)
        errors = torch.zeros_like(rest[:, :, first:end])
        for column in range(first, end):
            values = rest[:, :, column]
            code = (values / step).round().clamp(-levels, levels)
            codes[:, :, column] = code
            error = (values - code * step) / factor[:, column, column, None]
            rest[:, :, column:end] -= error[:, :, None] * factor[:, column, None, column:end]
            errors[:, :, column - first] = error
        rest[:, :, end:] -= errors @ factor[:, first:end, end:]
    return codes.view_as(matrix_RP)


def inverse_factor(moments_GPP: Tensor) -> Tensor:
    """The upper Cholesky factor of the inverse of each damped moment."""
    diagonal = moments_GPP.diagonal(dim1=1, dim2=2)
    damping = (DAMPING * diagonal.mean(1)).clamp_min(1e-8)
    identity = torch.eye(moments_GPP.shape[1])
    damped = moments_GPP + damping[:, None, None] * identity
    # An input that never is anything else than zero weighs nothing.
    damped = damped + torch.diag_embed((diagonal <= 0).float() * damping[:, None])
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)
