"""Choose the precision of forward passes: autocast, and the scaling of losses whose gradients float16 would lose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from rcc.errors import UserError

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """The dtype of autocast on a kind of device, None for none, and the scaler of the loss, where there is one.

    Parameters and the optimiser's state keep their own dtype.
    """

    kind: str = "cpu"
    dtype: torch.dtype | None = None
    scaler: GradScaler | None = None

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        return nullcontext() if self.dtype is None else torch.autocast(self.kind, self.dtype)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss that a backward pass starts from."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def unscale(self, optimiser: Optimizer) -> None:
        """Divide the gradients by the scaler's factor, before anything reads them."""
        if self.scaler is not None:
            self.scaler.unscale_(optimiser)

    def step(self, optimiser: Optimizer, taken: bool) -> None:
        """The optimiser's step, if it is to be taken; the scaler learns from gradients that were not finite."""
        if self.scaler is None:
            if taken:
                optimiser.step()
            return
        if taken:
            self.scaler.step(optimiser)  # type: ignore[no-untyped-call]
        self.scaler.update()


FULL = Precision()


def mixed_precision_forward(model: nn.Module, inputs: Mapping[str, Any], dtype: torch.dtype = torch.float16) -> Any:
    """`model(**inputs)` under autocast; in float32 where an output under it is not finite.

    Raises:
        UserError: float16 on a CPU.
    """
    first = next(model.parameters(), None)
    precision = precision_of(str(dtype).removeprefix("torch."), torch.device("cpu") if first is None else first.device)
    with precision.autocast():
        outputs = model(**inputs)
    return outputs if all(bool(each.isfinite().all()) for each in _tensors(outputs)) else model(**inputs)


def _tensors(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping | list | tuple):
        for each in outputs.values() if isinstance(outputs, Mapping) else outputs:
            yield from _tensors(each)


def precision_of(name: str, device: torch.device) -> Precision:
    """That of an option: float32, bfloat16, or float16, which needs a scaler.

    Raises:
        UserError: float16 on a CPU.
    """
    dtype = PRECISIONS[name]
    if dtype is None:
        return FULL
    if dtype is torch.float16 and device.type == "cpu":
        raise UserError(
            "training: precision is float16 and the model is on a CPU, where float16 is slow and overflows; take"
            " precision=bfloat16 or float32."
        )
    return Precision(device.type, dtype, GradScaler(device.type) if dtype is torch.float16 else None)
