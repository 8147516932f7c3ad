"""Opened attention against torch's own, over every option; in double precision."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from rcc.layers.attention import OpenAttention, open_attention
from rcc.layers.form import Form
from rcc.layers.units import find_units

B, L, S, E, HEADS = 2, 5, 4, 8, 2
BUILDS: list[dict[str, Any]] = [
    {},
    {"batch_first": True},
    {"bias": False, "add_zero_attn": True},
    {"add_bias_kv": True, "batch_first": True},
    {"kdim": 6, "vdim": 3},
    {"add_bias_kv": True, "add_zero_attn": True},
]
PADDING = torch.tensor([[False, False, True, False], [False, False, False, True]])
CALLS: list[dict[str, Any]] = [
    {},
    {"need_weights": False},
    {"average_attn_weights": False, "attn_mask": torch.randn(L, S, dtype=torch.float64)},
    {"attn_mask": torch.rand(L, S) > 0.7, "need_weights": False},
    {"attn_mask": torch.randn(B * HEADS, L, S, dtype=torch.float64), "key_padding_mask": PADDING},
    {"key_padding_mask": PADDING, "need_weights": False},
    {"key_padding_mask": PADDING.double(), "attn_mask": torch.randn(L, S, dtype=torch.float64)},
    {"attn_mask": torch.ones(L, S).triu(1).bool(), "is_causal": True},
    {"attn_mask": torch.ones(L, S).triu(1).bool(), "is_causal": True, "need_weights": False},
]


def built(options: dict[str, Any]) -> tuple[nn.MultiheadAttention, nn.MultiheadAttention]:
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(E, HEADS, dtype=torch.float64, **options).eval()
    for parameter in plain.parameters():
        nn.init.normal_(parameter)
    opened = copy.deepcopy(plain)
    open_attention(opened)
    assert type(opened) is OpenAttention
    return plain, opened


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("call", CALLS, ids=lambda call: "+".join(call) or "bare")
@pytest.mark.parametrize("options", BUILDS, ids=lambda options: "+".join(options) or "bare")
def test_outputs_and_weights_are_torchs(options: dict[str, Any], call: dict[str, Any]) -> None:
    plain, opened = built(options)
    query = torch.randn(B, L, E, dtype=torch.float64)
    key = torch.randn(B, S, options.get("kdim", E), dtype=torch.float64)
    value = torch.randn(B, S, options.get("vdim", E), dtype=torch.float64)
    if not options.get("batch_first"):
        query, key, value = (each.transpose(0, 1) for each in (query, key, value))
    for expected, found in zip(plain(query, key, value, **call), opened(query, key, value, **call), strict=True):
        assert (expected is None) == (found is None)
        if found is not None:
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_one_sequence_without_a_batch_and_gradients_work_too() -> None:
    plain, opened = built({})
    x = torch.randn(L, E, dtype=torch.float64)
    mask = torch.tensor([False, False, False, False, True])
    for expected, found in zip(
        plain(x, x, x, key_padding_mask=mask), opened(x, x, x, key_padding_mask=mask), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    opened(x, x, x)[0].square().sum().backward()
    plain(x, x, x)[0].square().sum().backward()
    found = torch.cat([opened.get_submodule(name).weight.grad for name in ("q_proj", "k_proj", "v_proj")])
    torch.testing.assert_close(found, plain.in_proj_weight.grad)


def test_dropout_is_applied_in_training() -> None:
    _, opened = built({"dropout": 0.5})
    x = torch.randn(L, B, E, dtype=torch.float64)
    assert torch.equal(opened(x, x, x)[0], opened(x, x, x)[0])
    opened.train()
    assert not torch.equal(opened(x, x, x)[0], opened(x, x, x)[0])
    assert not torch.equal(opened(x, x, x, need_weights=False)[0], opened(x, x, x, need_weights=False)[0])


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 6, "vdim": 3}])
def test_state_dicts_go_both_ways(options: dict[str, Any]) -> None:
    plain, opened = built(options)
    state = nn.ModuleDict({"inner": opened}).state_dict()
    expected = nn.ModuleDict({"inner": plain}).state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    changed = {name: torch.randn_like(tensor) for name, tensor in plain.state_dict().items()}
    plain.load_state_dict(changed)
    opened.load_state_dict(changed)
    assert all(torch.equal(opened.state_dict()[name], tensor) for name, tensor in plain.state_dict().items())


def test_torchs_attributes_are_composed_from_the_layers() -> None:
    plain, opened = built({})
    assert torch.equal(opened.in_proj_weight, plain.in_proj_weight)
    assert torch.equal(opened.in_proj_bias, plain.in_proj_bias)
    assert opened.q_proj_weight is None


def test_the_four_projections_are_units_that_take_any_form() -> None:
    _, opened = built({"batch_first": True})
    model = nn.ModuleDict({"attention": opened})
    units = find_units(model)
    names = [f"attention.{name}_proj" for name in ("q", "k", "v", "out")]
    assert [unit.name for unit in units] == names
    assert not any(unit.obstacle for unit in units)
    x = torch.randn(B, L, E, dtype=torch.float64)
    dense = opened(x, x, x)[0]
    weight = units[0].read().sparse
    u, s, v = torch.linalg.svd(weight)
    units[0].write(Form(left=u * s, right=v, bias=units[0].read().bias))
    torch.testing.assert_close(opened(x, x, x)[0], dense)
    assert "attention.q_proj.left" in model.state_dict()


def test_encoder_layers_give_the_same_outputs_once_opened() -> None:
    enabled = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        torch.manual_seed(0)
        encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(E, HEADS, 16, batch_first=True), 2).eval()
        decoder = nn.TransformerDecoderLayer(E, HEADS, 16, batch_first=True).eval()
        x, memory = torch.randn(B, L, E), torch.randn(B, S, E)
        expected = decoder(encoder(x), memory)
        open_attention(encoder)
        open_attention(decoder)
        torch.testing.assert_close(decoder(encoder(x), memory), expected)
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def test_attention_that_is_not_torchs_own_or_shares_its_weights_is_left() -> None:
    class Own(nn.MultiheadAttention):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return super().forward(*args, **kwargs)

    shared = nn.ModuleList([nn.MultiheadAttention(E, HEADS), nn.MultiheadAttention(E, HEADS)])
    shared[1].in_proj_weight = shared[0].in_proj_weight
    computed = nn.utils.parametrizations.weight_norm(nn.MultiheadAttention(E, HEADS), "in_proj_weight")
    model = nn.ModuleList([Own(E, HEADS), shared, computed])
    open_attention(model)
    assert not any(isinstance(module, OpenAttention) for module in model.modules())


def test_what_was_frozen_stays_frozen() -> None:
    module = nn.MultiheadAttention(E, HEADS).requires_grad_(False)
    open_attention(module)
    assert not any(parameter.requires_grad for parameter in module.parameters())
