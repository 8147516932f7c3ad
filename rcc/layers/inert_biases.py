"""Find the biases of softmax attention that cannot matter, or that another bias can hold, and move them exactly.

With scores (W_q x_i + b_q) · (W_k x_j + b_k) a key's bias adds q_i · b_k to all scores of the query i alike, and the
softmax of a row does not see what is added to all of it. Its weights sum to 1, so that a value's bias passes through
to the output of every head as it is, and W_o b_v can stand in the output's bias. Neither holds of every attention (a
rotation of positions between a key and its score, a key that is learned and appended), so that whoever moves them must
compare the model's outputs before and after.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from rcc.layers.units import Unit

PARTS = (
    ("k_proj", "v_proj", "out_proj"),  # CLIP, SigLIP, BART, Whisper; torch's own attention once it is opened
    ("k_proj", "v_proj", "o_proj"),
    ("self.key", "self.value", "output.dense"),  # BERT
    ("attention.key", "attention.value", "output.dense"),  # ViT
    ("k_lin", "v_lin", "out_lin"),  # DistilBERT
)
"""Where an attention keeps its keys, values and output, from the module that holds all of them."""


@dataclass(frozen=True)
class KeyBias:
    """The bias of an attention's keys, which is dropped."""

    key: Unit

    @property
    def units(self) -> tuple[Unit, ...]:
        return (self.key,)

    def move(self) -> None:
        _clear(self.key)


@dataclass(frozen=True)
class ValueBias:
    """The bias of an attention's values, which goes into that of its output, in float64."""

    value: Unit
    output: Unit

    @property
    def units(self) -> tuple[Unit, ...]:
        return (self.value, self.output)

    def move(self) -> None:
        value, form = self.value.read(), self.output.read()
        assert value.bias is not None
        weight, bias = form.dense().detach().double(), value.bias.detach().double()
        readers = weight.shape[1] // len(bias)
        if readers > 1:  # heads of queries that read one head of values, and so its bias
            attention: Any = self.value.root.get_submodule(self.value.name.rpartition(".")[0])
            bias = bias.view(-1, attention.head_dim).repeat_interleave(readers, 0).flatten()
        moved = weight @ bias
        if form.bias is not None:
            moved = moved + form.bias.detach().double()
        self.output.write(replace(form, bias=moved.to(value.bias)))
        _clear(self.value)


def inert_biases(root: nn.Module, units: Mapping[str, Unit]) -> Iterator[KeyBias | ValueBias]:
    """The biases, other than zero, of every attention of `root` whose layers are among `units` and can be written."""
    for prefix, _ in root.named_modules():
        for names in PARTS:
            key, value, output = (units.get(f"{prefix}.{name}" if prefix else name) for name in names)
            if key is None or value is None or output is None:
                continue
            if _has_bias(key):
                yield KeyBias(key)
            if _has_bias(value) and not output.obstacle and not output.tied and _reads(output, value):
                yield ValueBias(value, output)
            break


def _has_bias(unit: Unit) -> bool:
    bias = unit.read().bias
    return not unit.obstacle and not unit.tied and bias is not None and bool(bias.any())


def _reads(output: Unit, value: Unit) -> bool:
    """Whether the inputs of `output` are the outputs of `value`, each head of them once or equally often."""
    attention = value.root.get_submodule(value.name.rpartition(".")[0])
    return output.shape[1] == value.shape[0] or (
        output.shape[1] % value.shape[0] == 0
        and value.shape[0] % getattr(attention, "head_dim", value.shape[0] + 1) == 0
    )


def _clear(unit: Unit) -> None:
    form = unit.read()
    assert form.bias is not None
    unit.write(replace(form, bias=torch.zeros_like(form.bias)))
