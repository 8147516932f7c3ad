"""Count zero-shot hits over a data loader of pixels and labels, as the specification's evaluator does (§5.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from rcc.errors import UserError
from rcc.evaluation.classes.metrics import TOP_K, ranked
from rcc.layers.modes import evaluating


def loader_accuracies(model: Any, loader: Iterable[Any], classes: Tensor) -> dict[str, float]:
    """`accuracy` and, of five classes or more, `top5_accuracy`, as fractions.

    Args:
        model: gives normalised embeddings (B, D) by `encode_image`.
        loader: pairs of images, as `encode_image` takes them, and labels (B,).
        classes: (C, D) normalised embeddings of the classes.

    Raises:
        UserError: an element that is no such pair, a label without a class, or no element.
    """
    ranks = []
    with evaluating(model.module):
        for item in loader:
            if not isinstance(item, tuple | list) or len(item) != 2 or not isinstance(item[1], Tensor):
                raise UserError(
                    f"eval 'zero_shot': the loader gives {type(item).__name__}; it must give pairs (images, labels),"
                    " as a DataLoader over an ImageNetDataset does."
                )
            images, labels = item
            if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
                raise UserError(
                    f"eval 'zero_shot': labels lie in [{int(labels.min())}, {int(labels.max())}] and there are"
                    f" {len(classes)} class names."
                )
            with torch.inference_mode():
                scores = model.encode_image(images).float().cpu() @ classes.T
            ranks.append(ranked(scores, labels.cpu())[0])
    if not ranks:
        raise UserError("eval 'zero_shot': the loader gave nothing; check that its data set is not empty.")
    found = torch.cat(ranks)
    shares = {"accuracy": 1, f"top{TOP_K}_accuracy": TOP_K}
    return {name: float((found < k).double().mean()) for name, k in shares.items() if k == 1 or len(classes) >= k}
