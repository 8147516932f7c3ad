"""`rcc-run` as a user meets it: help, errors and their codes, sweeps, resume, interruption, completion.

What a job does is not the matter here: a stand-in for `rcc.run` records what it was given, which keeps the
tests free of torch. Runs for real are tested elsewhere.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from toys.studies import study_in

from rcc import __version__
from rcc.cli import main
from rcc.errors import UserError, WorkError

Job = Callable[[DictConfig, Path], Any]

STAGES = ("alpha", "dare", "gradual", "nullu", "quant", "recover")


class StandIn(ModuleType):
    """In place of `rcc.run`: leaves in the directory what a run leaves, then does `job`."""

    def __init__(self) -> None:
        super().__init__("rcc.run")
        self.configs: list[DictConfig] = []
        self.job: Job = lambda cfg, directory: (1.0, 1000.0)
        self.reported: list[Path] = []
        self.refuses: Callable[[DictConfig], list[str]] = lambda cfg: []

    def problems(self, cfg: DictConfig, choices: Mapping[str, str]) -> list[str]:
        return self.refuses(cfg)

    def report_sweep(self, folder: Path) -> None:
        self.reported.append(folder)

    def run(self, cfg: DictConfig, choices: Mapping[str, str], directory: Path, overrides: Sequence[str]) -> Any:
        self.configs.append(cfg)
        self.choices = choices
        if not (directory / "run.json").exists():
            (directory / ".hydra").mkdir()
            (directory / "run.json").write_text("{}")
            OmegaConf.save(cfg, directory / ".hydra/config.yaml", resolve=True)
            OmegaConf.save(OmegaConf.create(overrides), directory / ".hydra/overrides.yaml")
        return self.job(cfg, directory)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    module = StandIn()
    monkeypatch.setitem(sys.modules, "rcc.run", module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return module


def test_a_run_gets_the_composed_config_and_a_directory_of_its_own(stand_in: StandIn) -> None:
    assert main(["stage=nullu+dare", "stage.dare.target_sparsity=0.25"]) == 0
    (cfg,) = stand_in.configs
    assert list(cfg.stage) == ["nullu", "dare"]
    assert cfg.stage.dare.target_sparsity == 0.25
    (made,) = Path().glob("outputs/*/*")
    assert sorted(path.name for path in made.iterdir()) == [".hydra", "run.json"], "Hydra adds no files"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_ours_whatever_else_is_asked(flag: str, stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stage=nonsense", flag]) == 0
    assert "rcc-run resume=latest" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rcc {__version__}\n"
    assert not stand_in.configs


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from rcc.cli import main; main(['--help']);"
        "print([name for name in ('torch', 'transformers', 'hydra', 'omegaconf', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_typing_error_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from rcc.cli import main; code = main(['--cfg', 'job', 'stage=dar']);"
        "print(code, [name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "2 []"


def test_one_problem_is_one_line_and_several_are_listed(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stage=dar"]) == 2
    assert capsys.readouterr().err == (
        "rcc-run: unknown stage 'dar'. Did you mean 'dare'? Available: alpha, dare, gradual, nullu, quant, recover.\n"
    )
    stand_in.refuses = lambda cfg: ["stage 'dare': target_sparsity is 7."]
    assert main(["model=clp", "stage.dare.target_sparsity=7"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "rcc-run: 2 problems:"
    assert lines[1].startswith("  - unknown model 'clp'.")
    assert lines[2] == "  - stage 'dare': target_sparsity is 7."
    assert not stand_in.configs
    assert not Path("outputs").exists(), "a refused command leaves nothing"


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UserError("no such checkpoint"), 2, "rcc-run: no such checkpoint\n"),
        (UserError("one", "two"), 2, "rcc-run: 2 problems:\n  - one\n  - two\n"),
        (WorkError("a stage blew up"), 1, "rcc-run: a stage blew up\n"),
        (OSError(errno.ENOSPC, "No space left on device", "state/x"), 1, "cannot write state/x: No space left"),
        (OSError(errno.EROFS, "Read-only file system", "state/x"), 2, "cannot write state/x: Read-only file"),
    ],
)
def test_an_error_of_the_job_is_told_plainly(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str], error: Exception, code: int, told: str
) -> None:
    def fail(cfg: DictConfig, directory: Path) -> None:
        raise error

    stand_in.job = fail
    assert main([]) == code
    said = capsys.readouterr()
    assert told in said.err
    assert "Traceback" not in said.err
    assert "Error executing job" not in said.err
    assert said.out == ""


def test_the_stack_is_shown_where_asked_and_where_nobody_foresaw_the_error(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(cfg: DictConfig, directory: Path) -> None:
        raise stand_in.error  # type: ignore[misc]

    stand_in.job, stand_in.error = fail, ZeroDivisionError("oh")  # type: ignore[attr-defined]
    assert main([]) == 1
    assert "ZeroDivisionError: oh" in capsys.readouterr().err
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    stand_in.error = UserError("wrong")  # type: ignore[attr-defined]
    assert main(["hydra.run.dir=again"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("rcc-run: wrong\n")
    assert main(["stage=dar"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_an_output_folder_that_cannot_be_made_is_told(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    assert main(["hydra.run.dir=file/run"]) == 2
    assert "cannot write file/run" in capsys.readouterr().err
    assert main(["-m", "seed=1,2", "hydra.sweep.dir=file/sweep"]) == 2
    assert "Give another folder: rcc-run hydra.run.dir=" in capsys.readouterr().err
    assert not stand_in.configs


def test_an_interruption_says_how_to_go_on(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(cfg: DictConfig, directory: Path) -> None:
        raise KeyboardInterrupt

    stand_in.job = interrupt
    assert main(["hydra.run.dir=here"]) == 130
    assert capsys.readouterr().err == "rcc-run: interrupted. Continue with: rcc-run resume=here\n"
    stand_in.job = lambda cfg, directory: (1.0, 1.0)
    assert main(["resume=here"]) == 0
    assert stand_in.configs[-1].resume == "here"


def test_resume_continues_in_the_directory_with_the_recorded_overrides(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stage=nullu+dare", "seed=4"]) == 0
    (directory,) = Path().glob("outputs/*/*")
    assert main(["resume=latest", "logger=wandb"]) == 0
    first, second = stand_in.configs
    assert (first.stage, second.stage, second.seed) == (second.stage, first.stage, 4)
    assert (second.resume, stand_in.choices["logger"]) == (str(directory), "wandb")
    assert list(Path().glob("outputs/*/*")) == [directory]
    assert main([f"resume={directory}", "seed=5"]) == 2
    assert "seed: recorded 4, asked 5" in capsys.readouterr().err
    assert main(["-m", "resume=latest"]) == 2
    assert "cannot be combined with -m" in capsys.readouterr().err
    assert main(["resume=elsewhere"]) == 2
    assert "no such directory" in capsys.readouterr().err
    assert len(stand_in.configs) == 2


def test_a_sweep_over_orders_runs_each_and_ends_with_a_table(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.job = lambda cfg, directory: (0.9, 100.0) if next(iter(cfg.stage)) == "dare" else (0.8, 200.0)
    assert main(["-m", "stage=dare+nullu,nullu+dare", "seed=1"]) == 0
    assert [list(cfg.stage) for cfg in stand_in.configs] == [["dare", "nullu"], ["nullu", "dare"]]
    lines = capsys.readouterr().out.splitlines()
    assert "== job 1: stage=nullu+dare seed=1" in lines
    assert "*   0     90.00%    100  stage=dare+nullu" in lines
    assert "    1     80.00%    200  stage=nullu+dare" in lines
    assert len(stand_in.reported) == 1


def test_a_failed_job_does_not_end_a_sweep(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    def job(cfg: DictConfig, directory: Path) -> tuple[float, float]:
        if cfg.seed == 2:
            raise WorkError("seed 2 blew up")
        return 1.0, 10.0

    stand_in.job = job
    assert main(["-m", "seed=1,2,3"]) == 1
    said = capsys.readouterr()
    assert [cfg.seed for cfg in stand_in.configs] == [1, 2, 3]
    assert "rcc-run: seed 2 blew up\n" in said.err
    assert said.err.endswith("rcc-run: 1 of 3 jobs failed.\n")
    assert "failed  seed=2" in said.out


def test_a_job_of_a_sweep_can_be_resumed_alone(stand_in: StandIn) -> None:
    assert main(["-m", "stage=dare,nullu", "hydra.sweep.dir=sweep"]) == 0
    assert main(["resume=sweep/1"]) == 0
    assert list(stand_in.configs[-1].stage) == ["nullu"]


def test_the_search_keeps_its_study_in_its_folder_and_survives_failures(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    def job(cfg: DictConfig, directory: Path) -> tuple[float, float]:
        if len(stand_in.configs) == 2:
            raise WorkError("one trial fails")
        sparsity = cfg.stage.dare.target_sparsity
        return 1 - sparsity**2, 1000 * (1 - sparsity)

    stand_in.job = job
    assert main(["-m", "experiment=pareto", "hydra.sweeper.n_trials=4", "hydra.sweep.dir=found"]) == 1
    study = study_in("found")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    states = [trial.state.name for trial in study.trials]
    assert (states.count("COMPLETE"), states.count("FAIL")) == (3, 1)
    for trial, cfg in zip(study.trials, stand_in.configs, strict=True):
        asked = {option.split(".")[1] for option in trial.params if option != "stage"}
        assert asked == set(cfg.stage), "of each stage of its cascade something, and of no other"
        assert "+".join(cfg.stage) == trial.params["stage"]
        assert cfg.stage.dare.target_sparsity == trial.params["stage.dare.target_sparsity"]
    best = {tuple(trial.values) for trial in study.best_trials}
    said = capsys.readouterr()
    assert sum(line.startswith("*") for line in said.out.splitlines()) == len(best) + 1
    assert "1 of 4 jobs failed" in said.err
    assert "Failed experiment" not in said.err, "the sweeper does not repeat what was said"

    assert main(["-m", "experiment=pareto", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=again"]) == 0
    again = study_in("again")
    assert [t.params for t in again.trials] == [t.params for t in study.trials[:2]], "the search is seeded"


def test_the_configuration_can_be_printed(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cfg", "job", "-p", "stage", "stage=nullu+dare"]) == 0
    shown = OmegaConf.create(capsys.readouterr().out)
    assert list(shown) == ["nullu", "dare"]
    assert main(["--cfg", "job", "stage=nulu"]) == 2
    assert "Did you mean 'nullu'?" in capsys.readouterr().err
    assert main(["--info", "defaults-tree", "stage=nullu+dare"]) == 0
    assert "stage: nullu+dare:" in capsys.readouterr().out
    assert main(["-m", "--cfg", "job"]) == 2
    assert "Only one of" in capsys.readouterr().err
    assert not stand_in.configs


def test_configs_of_ones_own_are_used_and_checked(
    stand_in: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/night.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /stage: nullu+dare\nseed: 7\n"
    )
    assert main(["--config-dir", "mine", "experiment=night"]) == 0
    (cfg,) = stand_in.configs
    assert (list(cfg.stage), cfg.seed) == (["nullu", "dare"], 7)
    assert main(["experiment=night"]) == 2
    said = capsys.readouterr().err
    assert "unknown experiment 'night'. Available: budget_ladder, gpu, order, pareto, quick, specification." in said


@pytest.mark.parametrize(
    "flags", [["-cp", "a"], ["--config-path=/tmp"], ["-cn", "other"], ["-cp", "/".join("a" * 2047)]]
)
def test_another_configuration_in_place_of_ours_is_refused(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*flags, "dry_run=true"]) == 2
    assert "Add files of your own beside it with --config-dir=<folder>" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("rcc-run stage=", [f"stage={stage}" for stage in STAGES]),
        ("rcc-run stage=dare+", [f"stage=dare+{stage}" for stage in STAGES]),
        ("rcc-run stage=dare+nullu+a", ["stage=dare+nullu+alpha"]),
        ("rcc-run -m stage=dare+nullu,nullu+d", ["stage=dare+nullu,nullu+dare"]),
        ("rcc-run -m stage=dare,n", ["stage=dare,nullu"]),
        ("rcc-run stage=nullu+dare stage.", ["stage.dare.", "stage.nullu."]),
        ("rcc-run stage=dare+dare stage.dare_2.target", ["stage.dare_2.target_sparsity="]),
        ("rcc-run eval=retrieval+e", ["eval=retrieval+efficiency"]),
        ("rcc-run eval=zero_shot+retrieval+z", []),
        ("rcc-run eval=zero_shot eval.zero_shot.b", ["eval.zero_shot.batch_size="]),
        ("rcc-run experiment=s", ["experiment=specification"]),
        ("rcc-run gate.th", ["gate.threshold="]),
    ],
)
def test_the_shell_completes(
    line: str, completions: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.split() == completions


def test_completion_installs_through_the_console_script() -> None:
    script = Path(sys.executable).with_name("rcc-run")
    if not script.exists():
        pytest.skip("the package is not installed with its console script")
    done = subprocess.run([script, "-sc", "install=bash"], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("hydra_bash_completion rcc-run")
    shell = 'eval "$(rcc-run -sc install=bash)"; COMP_LINE="rcc-run stage=dare+n"; COMP_POINT=${#COMP_LINE};'
    shell += 'COMP_WORDS=(rcc-run stage=dare+n); COMP_CWORD=1; hydra_bash_completion; echo "${COMPREPLY[@]}"'
    environment = {**os.environ, "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "stage=dare+nullu"
