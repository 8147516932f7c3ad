"""Compare outputs with reference outputs: cosines of the values, and of their deviations from the mean."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

_ALIKE = 1e-5  # deviation from the mean row, relative to the rows, that float32 cannot tell from none


def item_cosines(outputs: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> tuple[float, float]:
    """Mean cosine over the items (first dimension) of all outputs, as they are and about the reference's mean item.

    The second tells items apart that all look alike: the outputs of a random network differ from one another by a
    cosine of 0.99, so that the first would be 0.99 even for the mean output. With one item both are the same.
    """
    plain, centred = [], []
    for name, expected in reference.items():
        if not expected.is_floating_point() or expected.dim() == 0:
            continue
        expected, found = (each.reshape(len(each), -1).double() for each in (expected, outputs[name]))
        mean = expected.mean(0) if len(expected) > 1 else torch.zeros_like(expected[0])
        plain.append(F.cosine_similarity(found, expected))
        centred.append(F.cosine_similarity(found - mean, expected - mean))
    if not plain:
        return 1.0, 1.0
    return float(torch.cat(plain).mean()), float(torch.cat(centred).mean())


def layer_cosine(output: Tensor, reference: Tensor) -> float:
    """Cosine of two layer outputs (..., out) as one vector each, about the reference's mean row.

    1 - cosine is half the squared relative error while that is small. Without the mean row, the few channels that
    are always large in trained transformers would hide an error in all others. Rows that are all alike, as a layer of
    zeros with a bias gives, are compared as they are.
    """
    output, reference = (tensor.reshape(-1, tensor.shape[-1]).float() for tensor in (output, reference))
    mean = reference.mean(0)
    if float((reference - mean).norm()) > _ALIKE * float(reference.norm()):
        output, reference = output - mean, reference - mean
    if torch.equal(output, reference):
        return 1.0
    size = float(reference.norm() * output.norm())
    return float(output.flatten() @ reference.flatten()) / size if size > 0 else 0.0
