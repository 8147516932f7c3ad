from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from rcc.layers.copying import deep_copy


def test_a_layer_with_a_mask_is_copied_with_what_it_computes() -> None:
    net = nn.Sequential(nn.Linear(3, 2))
    prune.l1_unstructured(net[0], "weight", 0.5)
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(net)
    twin, x = deep_copy(net), torch.randn(4, 3)
    assert torch.equal(twin(x), net(x))
    with torch.no_grad():
        twin[0].weight_orig.zero_()
    assert not torch.equal(twin(x), net(x))


def test_what_the_memo_names_is_taken_from_it() -> None:
    net = nn.Linear(2, 2)
    other = nn.Parameter(torch.zeros(2, 2))
    assert deep_copy(net, {id(net.weight): other}).weight is other
