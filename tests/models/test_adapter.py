"""What every adapter answers by default: where it is, that it needs a path to be planned, what it normalises."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rcc.errors import UserError
from rcc.models.adapter import Adapter
from rcc.models.own.module import ModuleAdapter
from rcc.models.transformers.vit import ViTWrapper


def test_the_device_is_that_of_the_first_parameter_with_values() -> None:
    mixed = nn.Sequential(nn.Linear(2, 2, device="meta"), nn.Linear(2, 2))
    assert ModuleAdapter(mixed).device == torch.device("cpu")
    assert ModuleAdapter(nn.Linear(2, 2, device="meta")).device == torch.device("meta")


def test_eval_puts_the_module_in_evaluation_mode_and_returns_the_adapter() -> None:
    adapter = ModuleAdapter(nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train())
    assert adapter.eval() is adapter
    assert not any(part.training for part in adapter.module.modules())


def test_a_model_without_a_path_cannot_be_planned_and_is_told_how_to_give_one() -> None:
    with pytest.raises(UserError, match=r"model 'vit' needs a path: .*model\.path=<directory>"):
        ViTWrapper.planned()


def test_a_model_in_memory_has_no_pixels_to_normalise_and_cannot_be_loaded_by_name() -> None:
    assert ModuleAdapter(nn.Linear(2, 2)).pixel_moments is None
    with pytest.raises(TypeError):
        Adapter()  # type: ignore[abstract]
