"""Make a compressed model dense again: every weight one matrix, as any program of the library reads it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from rcc.errors import UserError
from rcc.layers.form import Form
from rcc.models.adapter import Adapter


@torch.no_grad()
def make_dense_(model: Adapter) -> Adapter:
    """Replace each unit's form by its product, in place; tied units stay tied. Returns the model."""
    for unit in model.units():
        form = unit.read()
        unit.write(Form(sparse=form.dense().contiguous(), bias=form.bias))
    return model


@torch.no_grad()
def with_every_bias_(model: Adapter, files: Path) -> Adapter:
    """Give layers whose bias was dropped, since it could not matter, one of zeros: the architecture expects it.

    Args:
        files: a directory that holds the model's config.

    Raises:
        UserError: the model lacks or has something else than the architecture of its config.
    """
    if not isinstance(model.module, PreTrainedModel):
        raise UserError(
            f"the model '{model.name}' is no architecture of transformers, so that no program of the library reads it."
        )
    wanted, there = type(model).skeleton(files).module.state_dict(), model.module.state_dict()
    lacking = [name for name in wanted if name not in there]
    strange = [name for name in there if name not in wanted]
    if strange or any(not name.endswith(".bias") for name in lacking):
        different = ", ".join([*strange, *lacking][:4])
        raise UserError(f"the model '{model.name}' is not of the shape of its config any more: {different} differ.")
    for name in lacking:
        place, _, kind = name.rpartition(".")
        owner = model.module.get_submodule(place)
        like = next(iter(owner.parameters()))
        setattr(owner, kind, torch.nn.Parameter(torch.zeros(wanted[name].shape, dtype=like.dtype, device=like.device)))
    return model
