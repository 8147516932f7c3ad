"""Checksum a model as it is now: all its weights, and the files that say how its inputs are made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from rcc.models.adapter import Adapter

HASHERS = 4  # threads; hashlib lets go of the interpreter's lock while it works


@dataclass(frozen=True)
class Fingerprint:
    """A checksum of a model.

    Attributes:
        checksum: 64 hexadecimal digits of all there is, the device included.
        inputs: the same of what decides how images become pixels: the files, the dtypes and the device.
        portable: whether another process would find the same for the same model.
    """

    checksum: str
    inputs: str
    portable: bool


class Fingerprinter:
    """SHA-256 of an adapter: its module's structure, every byte of the tensors in it, and the files it writes.

    Bytes are read each time, because neither identity nor PyTorch's version counter notices a write through `.data`.
    What cannot be read counts as the object it is, within this process: weights packed for a kernel, which nobody
    can write to either, and an adapter without files, whose inputs are made by functions of the caller's.
    """

    def __init__(self) -> None:
        self._numbers = WeakIdKeyDictionary()
        self._next = count()

    def __call__(self, adapter: Adapter) -> Fingerprint:
        whole = hashlib.sha256(repr(adapter.module).encode())
        readable: dict[str, Tensor] = {}
        unreadable: dict[str, Tensor] = {}
        for name, tensor in _tensors(adapter.module):
            if tensor.layout is torch.sparse_csr:
                parts = (tensor.crow_indices(), tensor.col_indices(), tensor.values())
                readable |= {f"{name}[{index}]": part for index, part in enumerate(parts)}
            elif tensor.layout is torch.strided and not tensor.is_quantized:
                readable[name] = tensor
            else:
                unreadable[name] = tensor
        with ThreadPoolExecutor(HASHERS) as hashers:
            for digest in hashers.map(_digest, readable.keys(), readable.values()):
                whole.update(digest)
        for name, tensor in unreadable.items():
            whole.update(f"{name} is object {self._number(tensor)}".encode())
        files = _files_digest(adapter)
        dtypes = sorted({str(tensor.dtype) for tensor in adapter.module.parameters()})
        made_by = f"object {self._number(adapter)}" if files is None else files
        inputs = hashlib.sha256(
            f"{type(adapter).__qualname__} {made_by} {dtypes} {adapter.device}".encode()
        ).hexdigest()
        whole.update(inputs.encode())
        return Fingerprint(whole.hexdigest(), inputs, portable=not unreadable and files is not None)

    def _number(self, item: object) -> int:
        """A number no other object has or had."""
        if item not in self._numbers:
            self._numbers[item] = next(self._next)
        number: int = self._numbers[item]
        return number


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that a module of the tree holds, once, under the first of its names."""
    seen: set[int] = set()
    for path, part in module.named_modules():
        plain = {name: value for name, value in vars(part).items() if isinstance(value, Tensor)}
        for name, tensor in {**part._parameters, **part._buffers, **plain}.items():
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                yield f"{path}.{name}", tensor


def _digest(name: str, tensor: Tensor) -> bytes:
    checksum = hashlib.sha256(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    checksum.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return checksum.digest()


def _files_digest(adapter: Adapter) -> str | None:
    """Of the config, the image processor and the tokenizer; None where the adapter writes no file."""
    with TemporaryDirectory() as directory:
        adapter.save_files(Path(directory))
        files = sorted(path for path in Path(directory).rglob("*") if path.is_file())
        whole = hashlib.sha256()
        for path in files:
            whole.update(path.relative_to(directory).as_posix().encode())
            whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest() if files else None
