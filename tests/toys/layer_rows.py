"""Rows that layers receive and return, and the published truncation computed on these rows."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from toys.models import SmallModel, batches

from rcc.layers.input_rows import input_rows
from rcc.stages.base import StageContext


def data(count: int = 6, size: int = 16) -> list[dict[str, torch.Tensor]]:
    found = batches(count, size)
    for batch in found:  # images whose channels and neighbours go together
        batch["images"] = batch["images"].cumsum(3) * torch.tensor([4.0, 1.0, 0.2])[:, None, None]
    return found


def context_for(dense: SmallModel, calibration: list[dict[str, torch.Tensor]] | None = None) -> StageContext:
    twin = copy.deepcopy(dense)
    return StageContext(
        calibration=calibration or data(),
        dense=lambda: nullcontext(twin),
        reference=lambda name: twin.unit(name).read().dense(),
    )


def rows(model: SmallModel, name: str, calibration: Any) -> tuple[np.ndarray, np.ndarray]:
    """What the unit is given and what it puts out, (n, in) and (n, out), from hooks in evaluation mode."""
    given, put_out = [], []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        given.extend(part[0] for part in input_rows(module, inputs[0]))
        put_out.append(output.movedim(1, -1).flatten(0, -2) if output.dim() > 2 else output)

    handle = model.unit(name).module.register_forward_hook(keep)
    model.module.eval()
    with torch.no_grad():
        for batch in calibration:
            model.outputs(batch)
    handle.remove()
    return torch.cat(given).double().numpy(), torch.cat(put_out).double().numpy()


def svd_llm(
    x: np.ndarray, y: np.ndarray, near: np.ndarray, rank: int, bias: bool
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """The published formula on the rows themselves, to the wanted outputs: W* L = U S Vᵀ, V = Uᵣ Sᵣ Vᵣᵀ L⁻¹."""
    mean_x, mean_y = (x.mean(0), y.mean(0)) if bias else (np.zeros(x.shape[1]), np.zeros(y.shape[1]))
    x, y = x - mean_x, y - mean_y
    h = x.T @ x / len(x)
    damping = 1e-3 * np.diag(h).mean()
    h = h + damping * np.eye(len(h))
    best = np.linalg.solve(h, (y.T @ x / len(x) + damping * near).T).T
    root = np.linalg.cholesky(h)
    u, s, v = np.linalg.svd(best @ root, full_matrices=False)
    pair = (u[:, :rank] * s[:rank]) @ v[:rank] @ np.linalg.inv(root)
    return pair, mean_y - pair @ mean_x if bias else None, s


def weight_of(model: SmallModel, name: str) -> np.ndarray:
    return model.unit(name).read().dense().detach().double().numpy()
