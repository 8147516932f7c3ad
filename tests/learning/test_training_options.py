"""Options of a training: ranges, the specification's names, and what has no effect."""

from __future__ import annotations

from typing import Any

import pytest

from rcc.errors import UserError
from rcc.learning.training_options import TrainingOptions


def test_all_options_out_of_range_are_reported_at_once() -> None:
    with pytest.raises(UserError) as error:
        TrainingOptions(0, 0.0, -1.0, (0.9, 1.0), -1, 0.0)
    assert len(error.value.problems) == 6


def test_the_specification_s_names_are_ours() -> None:
    assert TrainingOptions.read({"lr": 0.1, "wd": 0.2, "epochs": 3, "betas": [0.8, 0.9]}) == TrainingOptions(
        epochs=3, learning_rate=0.1, weight_decay=0.2, betas=(0.8, 0.9)
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"learning_rat": 1}, "unknown option 'learning_rat'. Did you mean 'learning_rate'?"),
        ({"lr": 0.1, "learning_rate": 0.1}, "learning_rate and its other name are both given; leave one out."),
        ({"optimiser": "adam"}, "unknown optimiser 'adam'. Did you mean 'adamw'?"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'. Did you mean 'cosine'?"),
        ({"precision": "fp16"}, "unknown precision 'fp16'."),
        ({"average": 1.0}, "average is 1.0; it must be a number in [0, 1)."),
        ({"patience": 0}, "patience is 0; it must be a whole number from 1 up."),
        ({"momentum": 0.5}, "momentum=0.5 has no effect without SGD or Muon: take optimiser=sgd"),
        ({"betas": (0.8, 0.9), "optimiser": "sgd"}, "betas=(0.8, 0.9) has no effect without AdamW"),
        ({"plateau_epochs": 5}, "plateau_epochs=5 has no effect without plateaus: take schedule=plateau"),
    ],
)
def test_what_cannot_be_is_refused_by_name(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        TrainingOptions.read(config)
    assert message in str(error.value)
