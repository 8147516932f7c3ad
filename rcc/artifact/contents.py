"""Name a model's tensors as an artifact stores them, with their ties and the parts of each unit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rcc.errors import WorkError
from rcc.layers.form import MATRICES, STEPS
from rcc.layers.modules import FormModule
from rcc.layers.obstacles import held_latents, is_part_of_held
from rcc.layers.units import Unit

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    )
}  # fmt: skip
PLAIN_PARTS = ("weight", "bias")
FORM_PARTS = (*MATRICES, "scale", "bias", *STEPS)


def named_tensors(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All parameters and persistent buffers by name, a shared one once, and `{alias: name}` for the others.

    The first name in module order is the one that counts. The tensors are the model's own.
    """
    tensors: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, tensor in _all_tensors(module):
        if id(tensor) in first:
            tied[name] = first[id(tensor)]
        else:
            tensors[name] = tensor
            first[id(tensor)] = name
    return tensors, tied


def _all_tensors(root: nn.Module) -> Iterator[tuple[str, Tensor]]:
    effective: dict[int, Tensor] = {}
    for prefix, module in root.named_modules(remove_duplicate=False):
        if is_part_of_held(module):
            continue
        persistent = {
            key: tensor for key, tensor in module._buffers.items() if key not in module._non_persistent_buffers_set
        }
        for key, tensor in (*module._parameters.items(), *persistent.items()):
            if tensor is not None:
                yield f"{prefix}.{key}" if prefix else key, tensor
        # A matrix that is held for training is written as the layer computes with it, a tied one as one tensor.
        for key, latent in held_latents(module).items():
            tensor = effective.setdefault(id(latent), getattr(module, key))
            yield f"{prefix}.{key}" if prefix else key, tensor


def steps_of(module: nn.Module) -> dict[str, str]:
    """For each quantised matrix of `module`, by the name of its tensor, the name of its steps."""
    return {
        f"{prefix}.{name}" if prefix else name: f"{prefix}.{name}_step" if prefix else f"{name}_step"
        for prefix, held in module.named_modules()
        if isinstance(held, FormModule)
        for name in MATRICES
        if getattr(held, f"{name}_step") is not None
    }


def checksum(module: nn.Module) -> str:
    """SHA-256 of all that an artifact of the model would hold, in 64 hexadecimal digits: names, ties, dtypes, shapes,
    steps and every bit of the tensors."""
    tensors, tied = named_tensors(module)
    whole = hashlib.sha256(repr((sorted(tied.items()), sorted(steps_of(module).items()))).encode())
    for name, tensor in sorted(tensors.items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def parts_of(unit: Unit) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors a unit's module holds: `weight` and `bias`, or the parts of its form."""
    module = unit.module
    names = FORM_PARTS if isinstance(module, FormModule) else PLAIN_PARTS
    parts = {name: getattr(module, name, None) for name in names}
    return {name: tuple(tensor.shape) for name, tensor in parts.items() if tensor is not None}


def stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """`tensor` as it is stored: floating point in `dtype` (None: as it is), anything else untouched."""
    tensor = tensor.detach()
    return tensor if dtype is None or not torch.is_floating_point(tensor) else tensor.to(dtype)


def refuse_unstorable(name: str, tensor: Tensor, dtype: torch.dtype | None) -> None:
    """Raise unless `tensor` can be stored in `dtype` without losing more than precision.

    Buffers may hold infinities (attention masks do); parameters may not.

    Raises:
        WorkError: no data, a dtype the format has not, NaN or infinity, or a value too large for `dtype`.
    """
    if tensor.is_meta:
        raise WorkError(f"{name} {tuple(tensor.shape)} is on the meta device and has no data: load the weights first.")
    if tensor.dtype not in DTYPES.values():
        raise WorkError(f"{name} has dtype {tensor.dtype}, which cannot be stored. Storable: {', '.join(DTYPES)}.")
    if not torch.is_floating_point(tensor):
        return
    finite = torch.isfinite(tensor)
    if isinstance(tensor, nn.Parameter) and not bool(finite.all()):
        raise WorkError(
            f"{name} {tuple(tensor.shape)} holds {int((~finite).sum())} values that are NaN or infinite; "
            "nothing was written. Look for the stage that made them: metrics.jsonl has a record of each."
        )
    if dtype is None or torch.finfo(dtype).max >= torch.finfo(tensor.dtype).max:
        return
    lost = finite & ~torch.isfinite(tensor.to(dtype))
    if bool(lost.any()):
        wider = "float32" if dtype == torch.bfloat16 else "bfloat16 or float32"
        raise WorkError(
            f"{name} {tuple(tensor.shape)}: {int(lost.sum())} values do not fit {dtype} "
            f"(largest {float(tensor[lost].abs().max()):.6g}, limit {torch.finfo(dtype).max:.6g}); nothing "
            f"was written. Store the artifact in {wider}: export.dtype={wider.split()[0]}."
        )
