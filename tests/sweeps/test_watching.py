"""A trial reports to its study, is stopped for good, and is stopped in the same place however often it was killed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toys.studies import study_in

from rcc.cli import main
from rcc.sweeps.early_stopping import Report
from rcc.sweeps.watching import watch_here

SEARCH = (
    *("-m", "hydra/sweeper=pareto", "n_trials=8", "stage=dare+quant"),
    *("stage.dare.target_sparsity=interval(0.2,0.9)", "stage.quant.bits=choice(3,4,6,8)"),
)


@dataclass
class Given:
    """What a job returns that its search stopped."""

    abandoned: str


def compressed(cfg: Any, directory: Path, killed_at: int | None = None) -> Any:
    """Two steps: after pruning, and after rounding, of which the bytes are known beforehand."""
    sparsity, bits = cfg.stage.dare.target_sparsity, cfg.stage.quant.bits
    nbytes = 1000 * (1 - sparsity) * bits / 16
    kept = 1 - sparsity**4
    watch = watch_here()
    reports = [
        Report(0, ("dare", "quant"), 1.0, 1000.0),
        Report(1, ("quant",), kept, 1000 * (1 - sparsity)),
    ]
    for report in reports if watch is not None else ():
        if reason := watch.ask(report, nbytes):
            return Given(f"after step {report.step} of 2: {reason}")
        if killed_at == report.step:
            raise KeyboardInterrupt
    return kept - 0.1 / bits, nbytes


def told(folder: str) -> list[tuple[Any, ...]]:
    return [
        (trial.number, trial.state.name, trial.params, trial.values, trial.intermediate_values, trial.user_attrs)
        for trial in study_in(folder).trials
    ]


def test_an_abandoned_trial_is_done_for_good_and_told_as_such(stand_in, capsys):
    stand_in.job = compressed
    assert main([*SEARCH, "hydra.sweep.dir=s", "early_stopping=front"]) == 0
    states = [trial.state.name for trial in study_in("s").trials]
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert states[:4] == ["COMPLETE"] * 4, "nothing is stopped before there are results"
    assert capsys.readouterr().out.count(" abandoned ") == states.count("PRUNED")
    assert main(["resume=s", "retry=true"]) == 0
    assert len(stand_in.configs) == 8, "neither failed nor stopped"


def test_a_trial_that_is_asked_again_after_a_kill_is_answered_the_same(stand_in):
    """Each from the sixth on is killed once, before its first step or after it."""
    stand_in.job = compressed
    assert main([*SEARCH, "hydra.sweep.dir=whole", "early_stopping=front"]) == 0

    def killed_once(cfg: Any, directory: Path) -> Any:
        number, attempts = int(directory.name), len(json.loads((directory / "run.json").read_text())["attempts"])
        return compressed(cfg, directory, killed_at=number % 2 if number > 4 and attempts == 1 else None)

    stand_in.job = killed_once
    codes = [main([*SEARCH, "hydra.sweep.dir=s", "early_stopping=front"])]
    while codes[-1] == 130:
        codes.append(main(["resume=s"]))
    assert codes[-1] == 0
    assert len(codes) > 1
    assert told("s") == told("whole")
    assert "PRUNED" in {state for _, state, *_ in told("s")}


def test_the_rule_is_part_of_what_was_asked(stand_in, capsys):
    stand_in.job = compressed
    assert main([*SEARCH, "hydra.sweep.dir=s", "n_trials=1", "early_stopping=front"]) == 0
    assert main(["resume=s", "early_stopping=none"]) == 2
    assert 'early_stopping: recorded "front", asked "none"' in capsys.readouterr().err
    assert main([*SEARCH, "early_stopping=median"]) == 2
    assert "early_stopping=median compares one objective" in capsys.readouterr().err
    assert main(["-m", "seed=0,1", "early_stopping=front"]) == 2
    assert "early_stopping" in capsys.readouterr().err


def test_one_objective_is_stopped_by_optunas_rules(stand_in):
    stand_in.job = compressed
    search = [*SEARCH, "objectives=[retention:max]", "hydra.sweep.dir=s", "early_stopping=median"]
    assert main(search) == 0
    states = [trial.state.name for trial in study_in("s").trials]
    assert states[:5] == ["COMPLETE"] * 5
    assert "PRUNED" in states


def test_a_job_that_nobody_watches_asks_nobody(stand_in):
    stand_in.job = compressed
    assert main([*SEARCH, "hydra.sweep.dir=s", "n_trials=2"]) == 0
    assert [trial.user_attrs.get("reports") for trial in study_in("s").trials] == [None, None]
    assert watch_here() is None
