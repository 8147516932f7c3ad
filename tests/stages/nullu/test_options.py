"""What is wrong with the options of the low-rank stage is said at once, by name."""

import pytest

from rcc.errors import UserError
from rcc.stages.nullu.options import ALLOCATIONS, METRICS, PARTS, SCOPES
from rcc.stages.nullu.projector import NulluProjector


def test_every_choice_is_taken() -> None:
    for of in PARTS:
        for metric in METRICS:
            for allocation in ALLOCATIONS:
                for scope in SCOPES if allocation == "spectra" else ("global",):
                    stage = NulluProjector(0.5, of=of, metric=metric, allocation=allocation, scope=scope)
                    assert stage.at(0.25).of == of
                    assert stage.needs_calibration == (metric == "calibration")


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(UserError) as caught:
        NulluProjector(metric="output", of="all", sparse_share=1.0, allocation="greedy", scope="layer", refit="yes")
    text = str(caught.value)
    for part in ("metric 'output'", "of 'all'", "sparse_share is 1.0", "'greedy'", "scope 'layer'", "refit is 'yes'"):
        assert part in text
    assert len(caught.value.problems) == 6


@pytest.mark.parametrize(("option", "value"), [("of", "joint"), ("allocation", "spectra")])
def test_what_divides_the_share_needs_one(option: str, value: str) -> None:
    with pytest.raises(UserError, match=rf"{option}={value} .*rank_reduction_ratio.*set it"):
        NulluProjector(None, 0.9, **{option: value})
