"""What all jobs share: the settings of models, data and measurements, and the commands that they print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rcc.composing.composition import composer, own
from rcc.errors import UserError
from rcc.jobs.evaluate import Evaluate
from rcc.jobs.job import Job
from rcc.jobs.train import Train
from rcc.run import read


def job_of(*words: str, directory: str = "run") -> Job:
    with composer() as configs:
        cfg = configs.compose(list(words))
        return read(own(cfg), dict(cfg.hydra.runtime.choices), Path(directory), list(words))


def test_each_job_is_the_class_that_its_file_names() -> None:
    assert type(job_of("job=evaluate")) is Evaluate
    assert type(job_of("job=train")) is Train


def test_what_the_command_line_overrides_of_a_group_is_said_again() -> None:
    job = job_of("job=evaluate", "data=digits", "data.test=40", "eval=zero_shot", "seed=3")
    assert job.overrides_of("data", "eval") == ["data=digits", "data.test=40", "eval=zero_shot"]
    assert job.command_to_measure(Path("a b/artifact")) == (
        "rcc-run job=evaluate 'artifact=a b/artifact' data=digits data.test=40 eval=zero_shot"
    )


def test_the_command_that_measures_again_names_the_model_only_where_its_code_is_the_users() -> None:
    said = ("model=module", "model.target=toys.networks:ResNet")
    assert job_of("job=evaluate", *said).command_to_measure(Path("x")).endswith(" ".join(said))
    assert job_of("job=evaluate", "model=clip_tiny").command_to_measure(Path("x")) == "rcc-run job=evaluate artifact=x"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model=clip", "model.path=2026"], "model.path is 2026, which YAML reads as a int; write model.path=./2026."),
        (["data._target_=os.system"], "data 'digits': its _target_ 'os.system' is not a subclass of"),
        (["model._target_=os.system"], "model=clip_tiny: its _target_ 'os.system' is not a subclass of"),
        (["job._target_=os.system"], "job=compress: its _target_ 'os.system' is not a subclass of"),
        (["logger.local._target_=os.system"], "logger 'local': its _target_ 'os.system' is not a subclass of"),
        (["eval.zero_shot._target_=os.system"], "eval.zero_shot: its _target_ 'os.system' is not a subclass of"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_loaded(words: list[str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        job_of(*words)
    assert any(told in problem for problem in caught.value.problems), caught.value.problems


def test_evaluators_share_one_suite_and_data_comes_with_its_notes(capsys: pytest.CaptureFixture[str]) -> None:
    job: Any = job_of("job=evaluate", "data.test=40", "eval=zero_shot+efficiency")
    assert list(job.suite.evaluators) == ["zero_shot", "efficiency"]
    assert job.measures_costs
    assert len(job.data().test) == 40


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["stage=dare"], False),
        (["stage=dare", "stage.dare.allocation=uniform"], True),
        (["stage=dare", "stage.dare.allocation=uniform", "stage.dare.score=taylor"], False),
        (["stage=quant"], True),
        (["stage=alpha"], True),
        (["stage=alpha", "stage.alpha.num_epochs=2"], False),
        (["job=evaluate"], True),
    ],
)
def test_recomputing_activations_is_refused_where_no_backward_pass_is_run(words: list[str], refused: bool) -> None:
    said = [*words, "model=clip", "model.path=somewhere", "model.gradient_checkpointing=true"]
    if refused:
        with pytest.raises(UserError, match=r"model\.gradient_checkpointing=true has no effect"):
            job_of(*said)
    else:
        assert job_of(*said).settings["model"]["gradient_checkpointing"]
