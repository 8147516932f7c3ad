"""A run is resumed from Python as it was started, or refused with every difference by name."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from toys.stages import Erase, Noise

from rcc.cascade.bytes.budget import Target
from rcc.cascade.pipeline import RCCPipeline
from rcc.cascade.schedule import Schedule
from rcc.errors import UserError
from rcc.stages.dare.compressor import DARECompressor


def batches(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return [{"input": torch.randn(4, 6, generator=generator)} for _ in range(3)]


def stages():
    return [DARECompressor(0.1, solver="none", allocation="uniform"), Noise(0.2), Erase(0.1)]


def started(model, validator, directory, **options):
    RCCPipeline(stages(), directory=directory, **options).run(deepcopy(model), validator, batches())


def resumed(model, validator, directory, asked=None, calibration=None, **options):
    pipeline = RCCPipeline(asked or stages(), directory=directory, **options)
    pipeline.run(model, validator, calibration or batches(), resume=True)
    return pipeline


def test_the_same_again_is_resumed(model, validator, tmp_path):
    started(model, validator, tmp_path)
    assert len(resumed(model, validator, tmp_path, keep_last=5).history.records) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": 3}, "seed: recorded 0, asked 3"),
        ({"performance_threshold": 0.9}, "gate.threshold: recorded 0.95, asked 0.9"),
        ({"tries": 1}, "gate.tries: recorded 3, asked 1"),
        ({"rollback_enabled": False}, "gate.rollback: recorded True, asked False"),
        ({"schedule": Schedule(2)}, "schedule.rounds: recorded 1, asked 2"),
        ({"storage_dtype": "float32"}, "storage_dtype: recorded 'torch.float16', asked 'torch.float32'"),
        ({"storage_entropy": "none"}, "storage_entropy: recorded 'zstd', asked 'none'"),
        ({"target": Target(5000)}, "target.nbytes: recorded nothing, asked 5000"),
        ({"asked": stages()[::-1]}, "stages: recorded 'dare+noise+erase', asked 'erase+noise+dare'"),
        ({"asked": stages()[:2]}, "stage.erase.share: recorded 0.1, asked nothing"),
        ({"asked": [*stages()[:2], Erase(0.2)]}, "stage.erase.share: recorded 0.1, asked 0.2"),
        (
            {"asked": [DARECompressor(0.1, solver="none", allocation="uniform", exclude=["4"]), *stages()[1:]]},
            "stage.dare.exclude: recorded None, asked ['4']",
        ),
        ({"calibration": batches(1)}, "A loader that shuffles gives other batches each time"),
    ],
)
def test_what_is_not_the_same_is_refused_by_name(model, validator, tmp_path, options, said):
    started(model, validator, tmp_path)
    with pytest.raises(UserError, match=r"cannot be resumed, since it would be another") as raised:
        resumed(model, validator, tmp_path, **options)
    assert said in str(raised.value)


def test_every_difference_is_told_at_once(model, validator, tmp_path):
    started(model, validator, tmp_path)
    with pytest.raises(UserError) as raised:
        resumed(model, validator, tmp_path, seed=3, tries=1)
    assert str(raised.value).count("recorded") == 2


def test_other_weights_are_refused_and_stay_as_they_are(model, validator, tmp_path):
    started(model, validator, tmp_path)
    with torch.no_grad():
        model.module[0].weight[0, 0] += 1e-6
    before = deepcopy(model.module.state_dict())
    with pytest.raises(UserError, match=r"model\.weights: recorded 'checksum \w{12}'.*Load the dense model"):
        resumed(model, validator, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())


def test_a_model_that_a_run_of_this_process_changed_counts_as_what_it_was(model, validator, tmp_path):
    RCCPipeline(stages(), directory=tmp_path / "a").run(model, validator, batches())
    assert len(resumed(model, validator, tmp_path / "a").history.records) == 3
    RCCPipeline([Erase(0.05)], directory=tmp_path / "b").run(model, validator)  # started on what the first one left
    with pytest.raises(UserError, match=r"model\.weights: recorded"):
        resumed(model, validator, tmp_path / "a")


def test_a_state_that_says_nothing_of_its_run_is_refused(model, validator, tmp_path):
    pipeline = RCCPipeline(stages(), directory=tmp_path)
    pipeline.run(model, validator, batches())
    for path in tmp_path.glob("step-*/state.json"):
        path.write_text(path.read_text().replace('"description": {', '"description": {}, "other": {'))
    with pytest.raises(UserError, match=r"seed: recorded nothing, asked 0"):
        resumed(model, validator, tmp_path)
