"""Score the values of a unit for pruning, matrix by matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from rcc.calibration.moments import Moments
from rcc.layers.units import Unit
from rcc.ops.activation import activation_score
from rcc.ops.select import random_scores

GRADIENTS = ("taylor", "fisher")
"""The scores that need the gradient of the model's loss by every value."""
UNFELT = 1e-30
"""Of its magnitude, what a value scores that the loss does not feel: the smallest of these go first."""


def scored(
    score: str,
    values: Tensor,
    unit: Unit,
    name: str,
    seed: int,
    moments: Moments | None,
    gradient: Tensor | None = None,
) -> Tensor:
    """What the values of the matrix `name` of `unit` are ranked by; zero exactly where they are.

    'wanda' is the root mean square by which the unit's output changes when one value goes, whichever of S, U
    and V it is in: |Sᵢⱼ| √E[xⱼ²], |Uᵢₖ| √E[(V x)ₖ²] and ‖U₋ₖ‖ |Vₖⱼ| √E[xⱼ²], with the rows of S and U multiplied by
    the form's scale where it has one. Without moments, as for embeddings and norms, the inputs are taken to be of
    size one.

    'taylor' is the loss's change to first order when the value goes, |w E[g]| (Molchanov et al. 2019); 'fisher' to
    second order about a minimum, w² E[g²] / 2, with the diagonal of the empirical Fisher information for the
    curvature (LeCun et al. 1990; Theis et al. 2018). `gradient` is E[g] for the one and E[g²] for the other.
    """
    if score in GRADIENTS:
        assert gradient is not None
        wide = torch.promote_types(values.dtype, torch.float32)
        sizes = values.to(wide).abs()
        change = (sizes.square() / 2 if score == "fisher" else sizes) * gradient.to(wide).abs()
        change = torch.maximum(change, sizes.mul_(UNFELT)).clamp_min_(torch.finfo(wide).tiny)
        return change.masked_fill_(values == 0, 0.0)
    if score == "magnitude":
        return values
    if score == "random":
        return random_scores(values, seed)
    inputs = None if moments is None else moments.inner if name == "left" else moments.diagonal
    inputs = torch.ones(values.shape[1]) if inputs is None else inputs
    if inputs.dim() == 2:  # a grouped convolution: the rows of W come group by group
        inputs = inputs.repeat_interleave(len(values) // len(inputs), 0)
    form = unit.read()
    behind = None if form.scale is None else form.scale.detach().abs()
    if name == "right":
        assert form.left is not None
        left = form.left.detach() if behind is None else form.left.detach() * behind[:, None]
        behind = torch.linalg.vector_norm(left, dim=0, dtype=torch.float32)
    return activation_score(values, inputs, behind)


def note_on_moments(unit: Unit, moments: Moments | None) -> str:
    """What to say of a unit that was ranked without what its inputs are like; empty where nothing."""
    if moments is None:
        return f"ranked by magnitude: the inputs of this {unit.kind} have no moments"
    return "" if moments.fired else f"ranked by magnitude: {moments.note}"
