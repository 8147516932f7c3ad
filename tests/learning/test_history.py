"""Where a training stands: what an epoch's numbers are made of, patience, and the round trip through JSON."""

from __future__ import annotations

import json

import pytest

from rcc.learning.history import Epoch, History, Standing
from rcc.learning.loop import Step

STEPS = [Step(2.0, 1.0, True), Step(float("nan"), 1.0, False), Step(4.0, 3.0, True, True)]


def test_an_epoch_is_made_of_the_steps_that_were_taken() -> None:
    epoch = Epoch.of(2, STEPS)
    assert (epoch.loss, epoch.norm, epoch.largest_norm, epoch.skipped, epoch.retried) == (3.0, 2.0, 3.0, 1, 1)


@pytest.mark.parametrize(("scores", "waited"), [([], 0), ([1], 0), ([1, 2], 0), ([2, 1], 1), ([2, 2, 2], 2)])
def test_equal_scores_are_no_better_ones(scores: list[float], waited: int) -> None:
    assert History([Epoch(number, 0.0, score) for number, score in enumerate(scores, 1)]).waited == waited


def test_a_standing_comes_back_from_json_as_it_was() -> None:
    standing = Standing(position=3, history=History([Epoch(1, 0.1, 0.2)], 1), epoch_random={"torch": "00"})
    for step in (STEPS[0], STEPS[2]):
        standing.take(step)
    again = Standing.read(json.loads(json.dumps(standing.to_json())))
    assert again == standing
    assert again.finish_epoch() == [STEPS[0], STEPS[2]]
    assert (again.epoch, again.step, again.position, again.epoch_random) == (1, 2, 0, None)
