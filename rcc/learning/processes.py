"""Train in several processes, each on its share of every batch, as one process would on the whole of it.

Started by `accelerate launch` or torchrun, which tell each process its rank and where the first one is by environment
variables. Gradients are averaged after each backward pass, by one reduction (data parallelism); the weights and the
optimiser's state are whole in every process. The first process alone measures and writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from rcc.errors import Problems, UserError, WorkError
from rcc.layers.gather import several, together

COUNT = "WORLD_SIZE"
NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")
SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP, which shares the weights out among the processes",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
"""What `accelerate launch` was told to use, by the variable that it sets to 'true'."""
LONGEST = timedelta(hours=12)
"""That a process waits for the others, as where the first one measures. One that dies is noticed at once."""


def launched() -> int:
    """As how many processes the program was started, by the environment; 1 where that says nothing."""
    count = os.environ.get(COUNT, "1")
    return int(count) if count.isdecimal() and int(count) > 0 else 1


def check_launch(found: Problems) -> None:
    """Note what this program's way of training in several processes does not go with."""
    for variable, what in SHARDED.items():
        found.check(
            os.environ.get(variable, "").lower() != "true",
            f"accelerate was told to use {what}. Only plain data parallelism is built in: every process has the whole"
            " model. Launch with --multi_gpu, or --cpu.",
        )
    missing = [name for name in NEEDED if launched() > 1 and not os.environ.get(name)]
    found.check(
        not missing,
        f"{COUNT} is {launched()}, and {', '.join(missing)} is not set: start the processes by `accelerate launch`"
        " or torchrun.",
    )


@dataclass(frozen=True)
class Processes:
    """Those that train together, seen from the one of this rank."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that measures and writes."""
        return self.rank == 0

    def check_batch(self, size: int) -> None:
        """Refuse batches that cannot be shared out evenly.

        Raises:
            UserError: says which sizes can.
        """
        if size % self.count:
            raise UserError(
                f"training: batch_size is {size} and there are {self.count} processes, each of which takes an equal"
                f" share: give a multiple of {self.count}, as {max(1, size // self.count) * self.count}."
            )

    def check_module(self, module: nn.Module) -> None:
        """Refuse a network that in training mode computes with statistics of the batch.

        Raises:
            UserError: names the first such layer.
        """
        for name, each in module.named_modules():
            if self.count > 1 and isinstance(each, nn.modules.batchnorm._BatchNorm):
                raise UserError(
                    f"training: layer {name} is a batch norm, whose statistics each of the {self.count} processes would"
                    " take of its own items. Train in one process."
                )

    def share(self, item: Any) -> Any:
        """This process's part of a batch: of each tensor in it, by its first dimension.

        Raises:
            UserError: as `check_batch`.
        """
        if self.count == 1:
            return item
        if isinstance(item, Mapping):
            return {name: self.share(value) for name, value in item.items()}
        if isinstance(item, list | tuple):
            return type(item)(self.share(value) for value in item)
        if not isinstance(item, Tensor) or item.dim() == 0:
            return item
        self.check_batch(len(item))
        size = len(item) // self.count
        return item[self.rank * size : (self.rank + 1) * size]

    @torch.no_grad()
    def average(self, parameters: Sequence[Tensor]) -> None:
        """Replace the gradients of the parameters by their means over the processes."""
        if self.count == 1:
            return
        gradients = [each.grad for each in parameters if each.grad is not None]
        with together():
            flat = torch.cat([each.flatten() for each in gradients])
            distributed.all_reduce(flat)
            flat /= self.count
        for each, mean in zip(gradients, flat.split([each.numel() for each in gradients]), strict=True):
            each.copy_(mean.view_as(each))

    def mean(self, value: float) -> float:
        """The mean of a number over the processes."""
        if self.count == 1:
            return value
        with together():
            shared = torch.tensor([value], dtype=torch.float64, device=_device())
            distributed.all_reduce(shared)
        return float(shared) / self.count

    def told(self, value: float) -> float:
        """The number that the first process gives."""
        if self.count == 1:
            return value
        with together():
            shared = torch.tensor([value], dtype=torch.float64, device=_device())
            distributed.broadcast(shared, 0)
        return float(shared)

    @torch.no_grad()
    def take_over(self, tensors: Mapping[str, Tensor]) -> None:
        """Give every tensor the values that it has in the first process."""
        if self.count > 1:
            with together():
                for each in tensors.values():
                    distributed.broadcast(each, 0)

    def wait(self) -> None:
        """Go on when all have come here."""
        self.told(0.0)


def current() -> Processes:
    """Those of the present block of `joined`; else this one alone."""
    return Processes(distributed.get_rank(), distributed.get_world_size()) if several() else Processes()


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Inside, this process is one of those that were launched together: over NCCL on CUDA devices, over gloo on CPUs.

    Raises:
        WorkError: they do not find each other.
    """
    if launched() == 1:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST)
    except (RuntimeError, ValueError, OSError) as error:
        raise WorkError(f"the {launched()} processes do not find each other: {error}") from error
    try:
        yield current()
    finally:
        distributed.destroy_process_group()


def _device() -> torch.device:
    """Where tensors are that the processes exchange."""
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
