"""What share of the bytes a plan can touch, loud under half, and the option that opens each of the rest."""

from __future__ import annotations

import torch
from toys.language import llama

from rcc.cascade.plan import plan_run
from rcc.cascade.schedule import Schedule
from rcc.models.own.module import ModuleAdapter
from rcc.models.roles import roles_of
from rcc.reporting.reach import reach_table, reach_text
from rcc.stages.dare import DARECompressor

ATTENTION, MLP, TABLE = 2 * (16 * 16 * 2 + 16 * 8 * 2), 2 * 3 * 16 * 32, 60 * 16
"""Values of the tiny Llama, by role."""


def plan(roles):
    module = llama()
    with torch.no_grad():
        for index, layer in enumerate(module.model.layers):
            layer.input_layernorm.weight += torch.randn(16, generator=torch.Generator().manual_seed(index))
    adapter = ModuleAdapter(module, roles=roles_of(module), default_roles=("attention", "mlp", "conv"))
    return plan_run(adapter, [DARECompressor(roles=roles)], Schedule(), torch.float16), adapter.default_roles


def test_what_is_left_is_listed_with_its_bytes_and_the_role_to_name():
    planned, defaults = plan(None)
    values = ATTENTION + MLP
    assert reach_text(planned).startswith(f"{100 * 2 * values / planned.dense_bytes:.1f}% of the weights' bytes can be")
    row = next(row for row in reach_table(planned, defaults).rows if row[1] == "embedding")
    assert row[0] == "model.embed_tokens"
    assert row[3] == "stage.dare.roles=[attention,mlp,embedding]"
    assert row[4] == "1.92 kB"
    assert all(row[1] != "embedding" for row in reach_table(*plan(["attention", "mlp", "embedding"])).rows)


def test_under_half_is_said_loudly_with_the_bound_that_follows():
    planned, defaults = plan(["embedding"])
    share = 2 * TABLE / planned.dense_bytes
    assert reach_text(planned).startswith(f"WARNING: only {100 * share:.1f}% of the weights' bytes can be touched")
    assert f"at best {1 / (1 - share):.1f} times smaller" in reach_text(planned)
    rows = reach_table(planned, defaults).rows
    assert [row[3] for row in rows if row[1] == "mlp"] == ["the options that leave it out"]
    assert rows[-1][:2] == ("biases, buffers and lone parameters", "-")
