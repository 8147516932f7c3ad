"""A small model with one of everything an artifact must carry, and an adapter that rebuilds it from a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from rcc.layers.form import Form
from rcc.layers.grid import from_grid
from rcc.layers.model import Batch
from rcc.layers.units import Unit, find_units
from rcc.models.adapter import Adapter


class Toy(nn.Module):
    """A convolution, norms with and without integer buffers, linears of which two are tied, and a scalar."""

    def __init__(self, width: int = 6, bias: bool = True) -> None:
        super().__init__()
        self.words = nn.Embedding(7, width)
        self.image = nn.Conv2d(3, width, 3, bias=False)
        self.batch_norm = nn.BatchNorm2d(width)
        self.up = nn.Linear(width, 16, bias=bias)
        self.one = nn.Linear(16, 16, bias=False)
        self.two = nn.Linear(16, 16, bias=False)
        self.two.weight = self.one.weight
        self.norm = nn.LayerNorm(16)
        self.logit_scale = nn.Parameter(torch.tensor(2.5))
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
        self.register_buffer("positions", torch.arange(4), persistent=False)

    def forward(self, image: Tensor, words: Tensor) -> Tensor:
        features = self.batch_norm(self.image(image)).mean((2, 3)) + self.words(words)
        hidden = torch.relu(self.up(features))
        return self.norm(self.two(torch.relu(self.one(hidden)))) * self.logit_scale.exp()


class ToyAdapter(Adapter):
    name: ClassVar[str] = "toy"
    default_roles: ClassVar[Sequence[str]] = ("linear", "conv")

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def units(self) -> list[Unit]:
        return find_units(self.module)

    def prepare(self, images: Sequence[Any] | None = None, texts: Sequence[str] | None = None) -> Batch:
        raise NotImplementedError

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        return {"output": self.module(**batch)}

    def loss(self, batch: Batch) -> Tensor:
        return self.module(**batch).square().mean()

    def save_files(self, directory: Path) -> None:
        config = {"width": self.module.words.embedding_dim}
        (directory / "config.json").write_text(json.dumps(config))
        (directory / "processor").mkdir()
        (directory / "processor" / "size.txt").write_text("32")

    @classmethod
    def skeleton(cls, directory: Path) -> Self:
        with torch.device("meta"):
            module = Toy(**json.loads((directory / "config.json").read_text()))
        module.positions = torch.arange(4)
        return cls(module)


def dense_toy(seed: int = 0) -> ToyAdapter:
    torch.manual_seed(seed)
    toy = ToyAdapter(Toy())
    with torch.no_grad():
        toy.module.batch_norm.running_mean.uniform_(1, 2)
        toy.module.batch_norm.bias.uniform_(1, 2)
        toy.module.norm.bias.uniform_(1, 2)
        toy.module.batch_norm.num_batches_tracked += 3
    return toy.eval()


def compress(toy: ToyAdapter, seed: int = 1) -> ToyAdapter:
    """Every structure at once: factors, sparse factors, sparse plus low rank, scales, an added bias, tied factors."""
    draw = torch.Generator().manual_seed(seed)
    units = {unit.name: unit for unit in toy.units()}

    def random(*shape: int, keep: float = 1.0) -> Tensor:
        values = torch.randn(*shape, generator=draw)
        return values.masked_fill(torch.rand(*shape, generator=draw) >= keep, 0.0)

    up = units["up"].read()
    units["up"].write(Form(random(16, 6, keep=0.1), random(16, 2), random(2, 6), random(16), up.bias))
    units["one"].write(Form(left=random(16, 3, keep=0.3), right=random(3, 16)))
    units["image"].write(Form(sparse=random(6, 27, keep=0.2), bias=random(6)))
    units["words"].write(Form(left=random(7, 2), right=random(2, 6)))
    return toy


def quantise(toy: ToyAdapter, *names: str) -> ToyAdapter:
    """The matrices of these units as whole multiples of steps that float16 and bfloat16 hold exactly."""
    for unit in toy.units():
        if unit.name in names:
            form, parts = unit.read(), {}
            for name, matrix in form.matrices():
                step = (matrix.detach().abs().amax(1) / 15).to(torch.bfloat16).float().clamp_min(2.0**-10)
                whole = (matrix.detach() / step[:, None]).round().clamp(-127, 127).to(torch.int8)
                parts |= {name: from_grid(whole, step), f"{name}_step": step}
            unit.write(replace(form, **parts))
    return toy


def batch_for(seed: int = 2) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    return {"image": torch.randn(5, 3, 8, 8, generator=draw), "words": torch.tensor([0, 6, 3, 3, 1])}


def outputs(adapter: Adapter) -> Tensor:
    with torch.no_grad():
        return adapter.outputs(batch_for())["output"]
