"""A model's tensors by name: shared ones once, parts of forms, and what cannot be stored."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from toys.adapters import ToyAdapter, dense_toy, quantise

from rcc.artifact.contents import checksum, named_tensors, parts_of, refuse_unstorable, steps_of, stored
from rcc.errors import WorkError


def test_a_shared_tensor_is_named_once_by_its_first_name(dense: ToyAdapter) -> None:
    tensors, tied = named_tensors(dense.module)
    assert tied == {"two.weight": "one.weight"}
    assert tensors["one.weight"] is dense.module.two.weight
    assert tensors.keys() | tied.keys() == dense.module.state_dict().keys()


def test_a_module_registered_twice_gives_its_tensors_once() -> None:
    shared = nn.Linear(2, 3, bias=False)
    tensors, tied = named_tensors(nn.ModuleDict({"a": shared, "b": shared}))
    assert (list(tensors), tied) == (["a.weight"], {"b.weight": "a.weight"})


def test_the_checksum_is_of_names_ties_steps_dtypes_and_every_bit(dense: ToyAdapter) -> None:
    module = dense.module
    before = checksum(module)
    assert before == checksum(copy.deepcopy(module))
    halved = checksum(copy.deepcopy(module).half())
    untied = copy.deepcopy(module)
    untied.two.weight = nn.Parameter(untied.two.weight.clone())
    quantised = quantise(dense_toy(), "one")
    with torch.no_grad():
        module.one.weight[0, 0] = torch.nextafter(module.one.weight[0, 0], torch.tensor(9.0))
    assert len({before, checksum(module), halved, checksum(untied), checksum(quantised.module)}) == 5


def test_buffers_that_are_not_persistent_are_left_out(dense: ToyAdapter) -> None:
    assert "mask" in named_tensors(dense.module)[0]
    assert "positions" not in named_tensors(dense.module)[0]


def test_the_parts_of_a_unit_are_those_of_its_form(dense: ToyAdapter, compressed: ToyAdapter) -> None:
    plain = {unit.name: parts_of(unit) for unit in dense.units()}
    formed = {unit.name: parts_of(unit) for unit in compressed.units()}
    assert plain["up"] == {"weight": (16, 6), "bias": (16,)}
    assert formed["up"] == {"sparse": (16, 6), "left": (16, 2), "right": (2, 6), "scale": (16,), "bias": (16,)}


def test_quantised_matrices_are_named_with_their_steps() -> None:
    assert steps_of(dense_toy().module) == {}
    assert steps_of(quantise(dense_toy(), "up").module) == {"up.sparse": "up.sparse_step"}


def test_only_floating_point_is_stored_in_another_dtype() -> None:
    assert stored(torch.ones(2), torch.float16).dtype == torch.float16
    assert stored(torch.ones(2), None).dtype == torch.float32
    assert stored(torch.ones(2, dtype=torch.int64), torch.float16).dtype == torch.int64


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (nn.Parameter(torch.tensor([1.0, float("nan"), float("-inf")])), r"w \(3,\) holds 2 values that are NaN"),
        (torch.tensor([1e30, 1.0]), r"w \(2,\): 1 values do not fit torch.float16 \(largest 1e\+30, limit 65504\)"),
        (torch.empty(2, device="meta"), "on the meta device and has no data"),
        (torch.zeros(2, dtype=torch.complex64), "dtype torch.complex64, which cannot be stored. Storable: float64, "),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_reason(tensor: torch.Tensor, reason: str) -> None:
    with pytest.raises(WorkError, match=reason):
        refuse_unstorable("w", tensor, torch.float16)


def test_a_buffer_may_hold_infinities_and_a_wide_value_a_wide_dtype() -> None:
    refuse_unstorable("mask", torch.tensor([0.0, float("-inf")]), torch.float16)
    refuse_unstorable("w", nn.Parameter(torch.tensor([1e30])), torch.bfloat16)
