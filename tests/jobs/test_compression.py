"""What a compression is asked: steps, batches, the pipeline and the command that measures again, from the settings."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rcc.composing.composition import composer, own
from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.jobs.compression import Compression
from rcc.models.transformers.clip import CLIPWrapper
from rcc.run import read


@pytest.fixture(scope="module")
def job_of() -> Iterator[Callable[..., Compression]]:
    """Makes the job of a command line's overrides."""
    with composer() as configs:

        def make(*texts: str) -> Compression:
            cfg = configs.compose(texts)
            job = read(own(cfg), cfg.hydra.runtime.choices, Path("run"), list(texts))
            assert isinstance(job, Compression)
            return job

        yield make


Make = Callable[..., Compression]


def test_settings_are_at_hand_by_name(job_of: Make) -> None:
    job = job_of("seed=7", "export.dtype=bfloat16", "export.entropy=none")
    assert (job.seed, job.dtype, job.entropy, job.resumed) == (7, "bfloat16", "none", False)
    assert job_of("resume=latest").resumed
    assert job_of("eval=zero_shot+efficiency").measures_costs
    assert not job_of().measures_costs


def test_strengths_that_a_target_decides_are_left_open_in_the_steps(job_of: Make) -> None:
    texts = ["stage=dare+nullu", "schedule.rounds=1"]
    assert None not in [step.strength for step in job_of(*texts).steps()]
    assert [step.strength for step in job_of(*texts, "target_ratio=9").steps()] == [None, None]
    first, last = job_of(*texts, "target_bytes=90000", "target_split=last").steps()
    assert first.strength is not None
    assert last.strength is None


@pytest.mark.parametrize(
    ("texts", "again"),
    [
        ([], []),
        (["data=cifar10", "data.path=a b", "stage=dare", "threads=2"], ["data=cifar10", "data.path=a b", "threads=2"]),
        (["eval=zero_shot", "+debug=quick", "seed=3", "device=cpu"], ["eval=zero_shot", "+debug=quick", "device=cpu"]),
        (["model=clip", "model.path=x"], []),
    ],
)
def test_the_command_that_measures_again_says_what_decides_the_numbers_and_no_more(
    job_of: Make, texts: list[str], again: list[str]
) -> None:
    job = job_of()
    job.overrides = texts
    command = shlex.split(job.command_to_measure(Path("some run/artifact")))
    assert command == ["rcc-run", "job=evaluate", "artifact=some run/artifact", *again]


def test_the_code_of_a_network_of_ones_own_is_named_again(job_of: Make) -> None:
    texts = ["model=module", "model.target=toys.networks:ResNet", "model.path=weights.safetensors"]
    assert shlex.split(job_of(*texts).command_to_measure(Path("a")))[3:] == texts


def test_calibration_batches_cover_the_split_once_with_labels(job_of: Make, clip: CLIPWrapper, digits: Splits) -> None:
    job = job_of("stage=dare", "stage.dare.score=wanda", "calibration.batch_size=7")
    split = digits.calibration.subset(range(16))
    batches = job.calibration(clip, split)
    assert batches is not None
    assert [len(batch["pixel_values"]) for batch in batches] == [7, 7, 2]
    assert split.labels is not None
    assert torch.cat([batch["labels"] for batch in batches]).tolist() == split.labels.tolist()
    assert torch.equal(job.batch(clip, split, 7)["pixel_values"], batches[1]["pixel_values"])


def test_nothing_is_prepared_where_no_stage_looks_at_it(job_of: Make) -> None:
    unused: Any = object()  # neither the model nor the split is asked for anything
    by_size_alone = ["stage.dare.score=magnitude", "stage.dare.solver=none", "stage.dare.allocation=uniform"]
    assert job_of("stage=dare", *by_size_alone).calibration(unused, unused) is None


def test_the_pipeline_has_the_gate_the_schedule_and_the_state_of_the_run(job_of: Make) -> None:
    job = job_of("gate.threshold=0.5", "gate.tries=1", "gate.on_failure=abort", "schedule.rounds=2", "seed=5")
    pipeline = job.pipeline()
    assert (pipeline.gate.threshold, pipeline.gate.tries, pipeline.gate.on_failure) == (0.5, 1, "abort")
    assert pipeline.schedule == job.schedule
    assert pipeline.seed == 5
    assert not Path("run").exists()


def test_threads_are_those_asked_for_and_else_those_of_the_first_attempt(job_of: Make) -> None:
    before = torch.get_num_threads()
    try:
        assert job_of("threads=2").set_threads(recorded=1) == 2
        assert job_of().set_threads(recorded=1) == 1
        assert job_of().set_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_every_problem_of_the_settings_is_told_at_once(job_of: Make) -> None:
    with pytest.raises(UserError) as caught:
        job_of(
            "seed=-1",
            "threads=0",
            "device=tpu",
            "export.dtype=float8",
            "export.entropy=gzip",
            "state.keep_last=0",
            "calibration.batch_size=1.5",
            "gate.threshold=2",
            "schedule.rounds=0",
            "target_split=first",
            "target_ratio=0.5",
            "target_bytes=10",
            "stage.dare.target_sparsity=2",
            "eval.zero_shot.batch_size=0",
        )
    for part in (
        "seed is -1; it must be a whole number from 0 up.",
        "threads is 0; it must be a whole number from 1 up.",
        "unknown export.dtype 'float8'",
        "unknown export.entropy 'gzip'",
        "state.keep_last is 0; it must be a whole number from 1 up.",
        "calibration.batch_size is 1.5; it must be a whole number from 1 up.",
        "unknown target_split 'first'",
        "target_ratio is 0.5; it must be a number ≥ 1",
        "target_ratio and target_bytes are both given",
        "threshold is 2",
        "rounds is 0",
        "target_sparsity is 2",
        "batch_size is 0",
        "tpu",
    ):
        assert any(part in problem for problem in caught.value.problems), part
