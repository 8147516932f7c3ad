"""What a search tries first: every cascade as it is shipped, points of earlier runs and sweeps, points of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toys.studies import study_in

from rcc.cli import main
from rcc.errors import WorkError

SEARCH = (
    *("-m", "hydra/sweeper=pareto", "stage=choice(dare+quant,nullu+quant)", "stage.quant.bits=choice(3,4,8)"),
    *("stage.dare.target_sparsity=interval(0.2,0.8)", "stage.nullu.rank_reduction_ratio=interval(0.1,0.7)"),
)


def compressed(cfg: Any, directory: Path) -> tuple[float, float]:
    sparsity = cfg.stage.dare.target_sparsity if "dare" in cfg.stage else 0.5
    return 1 - sparsity**2, 1000 * (1 - sparsity)


def params(folder: str, count: int) -> list[dict[str, Any]]:
    return [trial.params for trial in study_in(folder).trials[:count]]


def test_baselines_are_every_cascade_with_what_is_shipped_or_the_middle(stand_in):
    assert main([*SEARCH, "baselines=true", "n_trials=3", "hydra.sweep.dir=s"]) == 0
    assert params("s", 2) == [
        {"stage": "dare+quant", "stage.quant.bits": 3, "stage.dare.target_sparsity": pytest.approx(0.5)},
        {"stage": "nullu+quant", "stage.quant.bits": 3, "stage.nullu.rank_reduction_ratio": pytest.approx(0.4)},
    ], "0.9 of dare and 0.75 of nullu are outside, and quant's auto is no choice"
    assert main(["resume=s", "n_trials=4"]) == 0
    shipped = [text.replace("interval(0.2,0.8)", "interval(0.2,0.95)") for text in SEARCH]
    assert main([*shipped, "baselines=true", "n_trials=2", "hydra.sweep.dir=wider"]) == 0
    assert params("wider", 1)[0]["stage.dare.target_sparsity"] == 0.9


def test_the_point_of_an_earlier_run_is_taken_from_its_files_but_for_what_is_not_searched(stand_in, capsys):
    assert main(["stage=dare+quant", "stage.dare.target_sparsity=0.625", "hydra.run.dir=run"]) == 0
    assert main([*SEARCH, "first=[run,{stage:nullu+quant}]", "n_trials=2", "hydra.sweep.dir=s"]) == 0
    first, second = params("s", 2)
    assert (first["stage"], first["stage.dare.target_sparsity"], second["stage"]) == (
        "dare+quant",
        0.625,
        "nullu+quant",
    )
    assert (
        "first: run has stage.quant.bits=auto, which is not searched; the sampler chooses it."
        in capsys.readouterr().out
    )
    recorded = json.loads(Path("s/sweep.json").read_text())["first"]
    assert recorded[0] == {"stage": "dare+quant", "stage.dare.target_sparsity": 0.625}
    Path("run/run.json").unlink()
    assert main(["resume=s", "n_trials=3"]) == 0, "what was taken is recorded"


def test_of_an_earlier_sweep_the_front_is_taken(stand_in):
    def job(cfg: Any, directory: Path) -> tuple[float, float]:
        if cfg.stage.dare.target_sparsity == 0.7:
            raise WorkError("blew up")
        kept, nbytes = compressed(cfg, directory)
        return (0.1, 2000.0) if cfg.stage.dare.target_sparsity == 0.6 else (kept, nbytes)

    stand_in.job = job
    assert main(["-m", "stage=dare+quant", "stage.dare.target_sparsity=0.3,0.6,0.7,0.5", "hydra.sweep.dir=list"]) == 1
    stand_in.job = compressed
    assert main([*SEARCH, "first=[list]", "n_trials=2", "hydra.sweep.dir=s"]) == 0
    assert [point["stage.dare.target_sparsity"] for point in params("s", 2)] == [0.5, 0.3], "smallest first"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["first=[nowhere]"], "nowhere is the folder of neither a run nor a sweep"),
        (["first=[{stage:dare+quant},{stage:nullu+quant}]", "n_trials=1"], "2 points to try first, and n_trials is 1"),
        (["baselines=true", "sampler=grid"], "baselines=true has no effect with sampler=grid"),
        (["baselines=maybe"], "baselines"),
    ],
)
def test_what_cannot_be_tried_first_is_refused(stand_in, capsys, given, said):
    assert main([*SEARCH, *given]) == 2
    assert said in capsys.readouterr().err
    assert not stand_in.configs


def test_no_code_is_taken_from_an_earlier_run(stand_in, capsys):
    code = "stage.dare._target_=rcc.stages.dare.DARECompressor"
    assert main(["stage=dare+quant", code, "stage.dare.target_sparsity=0.5", "hydra.run.dir=run"]) == 0
    assert main([*SEARCH, "first=[run]", "n_trials=1", "hydra.sweep.dir=s"]) == 0
    assert "_target_" not in Path("s/sweep.json").read_text()
