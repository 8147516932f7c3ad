"""Gather what several processes compute of one batch, so that each has the whole of it, gradients included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor

from rcc.errors import WorkError


def several() -> bool:
    """Whether this process is one of several that train together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


@contextmanager
def together() -> Iterator[None]:
    """Say what it means when an exchange with the other processes fails.

    Raises:
        WorkError: one of them is gone, or did not answer.
    """
    try:
        yield
    except RuntimeError as error:
        rank, count = distributed.get_rank(), distributed.get_world_size()
        first = (str(error).splitlines() or [""])[0][:200]
        raise WorkError(
            f"process {rank} of {count} ends because another one did, or did not answer; the message of that one says"
            f" why ({first}). Start them all again with resume=<the run's directory>."
        ) from error


def gathered(part: Tensor) -> Tensor:
    """The parts (n, …) of all processes one after another (processes · n, …), by rank; `part` where there is one alone.

    What every process goes on to compute of the whole is the same. Its gradient by a part is then summed over the
    processes, so that the mean of their gradients by any parameter is the gradient on the whole batch.

    Args:
        part: of the same shape in every process.
    """
    return _Gathered.apply(part) if several() else part  # type: ignore[no-any-return]


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, part: Tensor) -> Tensor:
        part = part.contiguous()
        parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
        with together():
            distributed.all_gather(parts, part)
        context.length = len(part)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].contiguous().clone()
        with together():
            distributed.all_reduce(whole)
        start = distributed.get_rank() * context.length
        return whole[start : start + context.length]
