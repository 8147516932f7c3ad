"""Batches of every form a data loader yields, and outputs of every form a forward returns."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import ImageClassifierOutput

from rcc.errors import UserError
from rcc.models.batches import as_batch, call_by_name, named_outputs
from rcc.models.own.module import ModuleAdapter

X, M, Y = torch.ones(2, 3), torch.ones(2), torch.tensor([0, 1])


def adapter(forward: Any) -> ModuleAdapter:
    kind = type("Net", (nn.Module,), {"forward": forward})
    net = kind()
    net.layer = nn.Linear(3, 2)
    return ModuleAdapter(net)


def one(self: Any, x: Tensor) -> Any: ...
def optional(self: Any, x: Tensor, mask: Tensor | None = None) -> Any: ...
def two(self: Any, x: Tensor, mask: Tensor) -> Any: ...
def labelled(self: Any, x: Tensor, target: Tensor | None = None) -> Any: ...
def open_to_all(self: Any, x: Tensor, **more: Tensor) -> Any: ...
def by_position(self: Any, *inputs: Tensor) -> Any: ...
def hugging(
    self: Any, input_ids: Tensor | None = None, pixel_values: Tensor | None = None, labels: Any = None
) -> Any: ...


@pytest.mark.parametrize(
    ("forward", "item", "names"),
    [
        (one, X, ["x"]),
        (one, (X,), ["x"]),
        (one, [X, Y], ["x", "labels"]),
        (optional, (X, Y), ["x", "labels"]),
        (two, (X, M), ["x", "mask"]),
        (two, (X, M, Y), ["x", "mask", "labels"]),
        (two, ((X, M), Y), ["x", "mask", "labels"]),
        (two, ({"x": X, "mask": M}, Y), ["x", "mask", "labels"]),
        (labelled, (X, Y), ["x", "target"]),
        (optional, {"x": X, "mask": M, "labels": Y}, ["x", "mask", "labels"]),
        (open_to_all, {"x": X, "other": M}, ["x", "other"]),
        (hugging, torch.ones(2, 7).long(), ["input_ids"]),
        (hugging, torch.ones(2, 3, 8, 8), ["pixel_values"]),
        (hugging, (torch.ones(2, 3, 8, 8), Y), ["pixel_values", "labels"]),
    ],
)
def test_every_form_of_a_batch_is_named_by_the_forwards_parameters(forward: Any, item: Any, names: list[str]) -> None:
    assert list(as_batch(item, adapter(forward))) == names


@pytest.mark.parametrize(
    ("forward", "item", "reason"),
    [
        (one, "a cat", "type str"),
        (one, (X, M, Y), r"3 tensors, and the forward of Net requires 1 \(x\)"),
        (two, X, "one tensor, and the forward of Net requires x, mask"),
        (hugging, (X.long(), M, Y), "3 tensors"),
        (optional, {"x": X, "maks": M}, "'maks', which the forward does not take.*mask"),
        (one, {"x": [1, 2]}, "'x' is of type list; it must be a tensor"),
        (by_position, X, "by position alone"),
    ],
)
def test_what_cannot_be_named_for_sure_is_refused_with_the_form_that_is_wanted(
    forward: Any, item: Any, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        as_batch(item, adapter(forward))


def test_a_function_of_the_batch_may_read_any_entry() -> None:
    free = ModuleAdapter(nn.Linear(3, 2), outputs=lambda batch: {"y": batch["anything"]})
    assert list(as_batch({"anything": X}, free)) == ["anything"]


def test_a_forward_without_labels_is_called_without_them_and_nothing_else_is_dropped() -> None:
    seen = adapter(lambda self, x: x).module
    assert torch.equal(call_by_name(seen, {"x": X, "labels": Y}), X)
    with pytest.raises(TypeError, match="maks"):
        call_by_name(seen, {"x": X, "maks": M})


Pair = namedtuple("Pair", ["mean", "variance"])


@dataclass
class Boxes:
    boxes: Tensor
    names: str


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (X, ["output"]),
        ((X,), ["output"]),
        ([X, M], ["output_0", "output_1"]),
        ((X, (M, M)), ["output_0", "output_1_0", "output_1_1"]),
        ({"logits": X, "note": "text"}, ["logits"]),
        (Pair(X, M), ["mean", "variance"]),
        (Boxes(X, "cat"), ["boxes"]),
        (ImageClassifierOutput(loss=torch.tensor(1.0), logits=X, hidden_states=(X, X)), ["logits"]),
        ({"inner": {"a": X, "b": M}}, ["a", "b"]),
        ((X, Y), ["output_0"]),
        (Y, ["output"]),
        (None, []),
        ("text", []),
    ],
)
def test_every_form_of_a_result_is_named(result: Any, names: list[str]) -> None:
    assert list(named_outputs(result)) == names


def test_a_forward_that_returns_no_tensor_is_refused_with_what_it_returned() -> None:
    with pytest.raises(UserError, match=r"Net has no outputs.* returned NoneType"):
        adapter(one).outputs({"x": X})
