"""Choose where a model lives and in which dtype it computes."""

from __future__ import annotations

import torch

from rcc.errors import Problems, unknown

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device asked for; "auto" is CUDA, else MPS, else the CPU.

    Raises:
        UserError: a device that this machine does not have.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if str(device) == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    problems = Problems("device")
    kind = str(device).partition(":")[0]
    existing = [kind for kind, there in available.items() if there]
    if kind in available and kind not in existing:
        has = ", ".join(existing)
        problems.check(False, f"'{device}' was asked for and this machine has only {has}; device=auto takes the best.")
    elif problems.check(kind in existing, unknown("device", str(device), ["auto", *existing])) and kind == "cuda":
        index, count = torch.device(device).index or 0, torch.cuda.device_count()
        problems.check(index < count, f"'{device}' was asked for and there are {count} CUDA devices.")
    problems.done()
    return torch.device(device)


def pick_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """A dtype by its name or as itself.

    Raises:
        UserError: not one of float32, float16 and bfloat16.
    """
    name = str(dtype).removeprefix("torch.")
    problems = Problems("model")
    problems.choice("dtype", name, DTYPES)
    problems.done()
    return DTYPES[name]
