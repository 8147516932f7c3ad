"""Options of pre-training: ranges and what has no effect, told at once and before any data is there."""

from __future__ import annotations

from typing import Any

import pytest

from rcc.errors import UserError
from rcc.training.pretraining_options import PretrainingOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1}, "batch_size is 1; it must be at least 2: the contrastive loss tells pairs"),
        ({"degrees": -1}, "degrees is -1; it must be a number in [0, 180]."),
        ({"area": 0, "augmentation": "crop"}, "area is 0; it must be a number in (0, 1]."),
        ({"augmentation": "flip"}, "unknown augmentation 'flip'."),
        ({"sampler": "shuffle"}, "unknown sampler 'shuffle'. Did you mean 'shuffled'?"),
        ({"degrees": 3.0, "augmentation": "crop"}, "degrees=3.0 has no effect with augmentation=crop: take affine"),
        ({"flip": 0.1}, "flip=0.1 has no effect with augmentation=affine: take crop"),
        ({"vocabulary": 100}, "vocabulary is 100; it must be a whole number from 514 up."),
        ({"architecture": {"widht": 3}}, "unknown size 'widht'."),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        PretrainingOptions(**options)
    assert message in str(error.value)


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(UserError) as error:
        PretrainingOptions(epochs=0, batch_size=0, degrees=-1, architecture={"hidden": 30})
    assert len(error.value.problems) == 4
