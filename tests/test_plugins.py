"""Everything that can be plugged in is built in one way; the guide to it is run as it stands."""

from __future__ import annotations

import json
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import rcc
from rcc.cli import main
from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.plugins import build, build_named, call, locate
from rcc.stages.base import Stage
from rcc.stages.dare.compressor import DARECompressor

PAGE = Path(rcc.__file__).parents[1] / "docs/plug-in.md"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("os.system", r"is not a subclass of rcc\.stages\.base\.Stage, or a function annotated to return one"),
        ("rcc.cascade.gate.Gate", "is not a subclass of"),
        ("rcc.data.sets.digits.load_digits", "is not a subclass of"),
        (
            "rcc.stages.nothing.Here",
            r"cannot be imported \(ModuleNotFoundError: No module named 'rcc\.stages\.nothing'",
        ),
        ("rcc.stages.base.Nothing", r"cannot be imported \(AttributeError"),
        ("DARECompressor", r"cannot be imported \(it names no module\)"),
        (None, r"cannot be imported \(it names no module\)"),
    ],
)
def test_only_a_class_of_the_kind_is_built_whatever_a_config_names(target: str | None, told: str) -> None:
    with pytest.raises(UserError, match=rf"stage\.mine: its _target_ .*{told}"):
        build("stage.mine", Stage, {"_target_": target})


def test_a_function_counts_by_what_it_is_annotated_to_return() -> None:
    assert locate("data", "rcc.data.sets.digits.load_digits", Splits)(train=0, test=10).test is not None
    with pytest.raises(UserError, match="is not a subclass of"):
        locate("data", "rcc.data.sets.digits.enlarged", Splits)


def test_options_are_checked_before_the_call_and_what_is_offered_is_taken_where_there_is_a_parameter() -> None:
    def made(directory: str, share: float, rest: int = 3) -> tuple[str, float, int]:
        return directory, share, rest

    assert call("mine", made, {"share": 0.5}, directory="here", config={}) == ("here", 0.5, 3)
    with pytest.raises(UserError) as caught:
        call("mine", made, {"shar": 0.5}, directory="here")
    assert caught.value.problems == (
        "mine: unknown option 'shar'. Did you mean 'share'? Available: rest, share.",
        "mine: the option 'share' has no default and was not given.",
    )


def test_a_shipped_choice_is_built_by_its_name() -> None:
    assert isinstance(build_named("stage", "dare", Stage, {"target_sparsity": 0.25}), DARECompressor)
    with pytest.raises(UserError, match=r"unknown stage 'dar'\. Did you mean 'dare'\?"):
        build_named("stage", "dar", Stage, {})
    with pytest.raises(UserError, match=r"unknown stage '\.\./eval/zero_shot'"):
        build_named("stage", "../eval/zero_shot", Stage, {})


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the guide, in a folder that Python imports from; the current folder is another."""
    for language, content in re.findall(r"```(python|yaml)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        name, _, text = content.partition("\n")
        path = tmp_path / name.removeprefix("# ")
        assert path.suffix == {"python": ".py", "yaml": ".yaml"}[language]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path / "runs")
    yield tmp_path
    sys.modules.pop("mine", None)


def run(outside: Path, *words: str) -> int:
    return main(["--config-dir", str(outside / "conf_mine"), *words])


def test_the_guide_adds_a_stage_a_model_data_an_evaluator_and_a_logger_from_outside(
    outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rcc.models.transformers.clip_tiny import embedded

    own = ["model=grey_clip", f"model.path={embedded()}", "data=even_digits", "eval=own_text"]
    words = [*own, "stage=smallest+quant", "stage.smallest.share=0.25", "logger=steps+tensorboard", "schedule=one_shot"]
    assert run(outside, *words, "hydra.run.dir=one") == 0
    lines = Path("one/steps.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["smallest", "quant"]
    logged = [path.name for path in Path("one").glob("events.out.tfevents.*")]
    assert bool(logged) == (find_spec("tensorboard") is not None), "without the package a warning, and the run goes on"
    manifest = json.loads(Path("one/artifact/manifest.json").read_text())
    assert manifest["adapter"] == "grey_clip"
    assert "own_text_similarity" in manifest["metrics"]["test"]
    with pytest.raises(UserError, match=r"unknown adapter 'grey_clip'.*rcc\.load\(directory, adapter=…\)"):
        rcc.load("one/artifact")
    loaded = rcc.load("one/artifact", adapter=sys.modules["mine"].GreyCLIP)
    assert type(loaded) is sys.modules["mine"].GreyCLIP
    said = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Measure it again:"))
    assert "model=grey_clip" in said
    again = shlex.split(said.partition(": ")[2])
    assert again[:3] == ["rcc-run", "--config-dir", str(outside / "conf_mine")]
    assert main([*again[1:], "hydra.run.dir=two"]) == 0
    measured = json.loads(Path("two/evaluation.json").read_text())["models"][0]["metrics"][0]
    assert measured["value"] == manifest["metrics"]["test"]["own_text_similarity"]


def test_the_stage_of_the_guide_is_solved_for_by_a_target(outside: Path) -> None:
    assert run(outside, "stage=smallest", "target_ratio=4.5", "schedule=one_shot", "data.test=40") == 0
    manifest = next(Path("outputs").rglob("artifact/manifest.json"))
    nbytes = sum(path.stat().st_size for path in manifest.parent.iterdir())
    assert abs(5_339_824 / nbytes / 4.5 - 1) < 0.01


def test_the_trainer_and_the_job_of_the_guide_run(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(outside, "job=train", "trainer=short", "data=even_digits", "hydra.run.dir=trained") == 0
    assert Path("trained/checkpoint/model.safetensors").is_file()
    capsys.readouterr()
    assert run(outside, "job=count") == 0
    assert capsys.readouterr().out == "1,327,361 parameters\n"
    assert run(outside, "job=count", "gate.threshold=0.9") == 2
    assert "job=count does not use 'gate', which belongs to job=compress." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["stage=smallest", "stage.smallest.share=2"], "stage 'smallest': share is 2; it must be a number in [0, 1)."),
        (["logger=steps", "logger.steps.fil=x"], "unknown option 'logger.steps.fil'. Did you mean 'file'?"),
        (["data=wrong"], "data 'wrong': its _target_ 'os.system' is not a subclass of rcc.data.splits.Splits"),
        (["model=wrong"], "model=wrong: its _target_ 'mine.Smallest' is not a subclass of rcc.models.adapter.Adapter"),
        (["eval=wrong"], "eval.wrong: its _target_ 'mine.Count' is not a subclass of"),
        (["logger=wrong"], "logger 'wrong': its _target_ 'nowhere.Logger' cannot be imported"),
        (["job=train", "trainer=wrong"], "trainer 'wrong': its _target_ 'mine.even_digits' is not a subclass of"),
        (["job=wrong"], "job=wrong: its _target_ 'subprocess.run' is not a subclass of rcc.jobs.job.Job"),
    ],
)
def test_what_a_file_from_outside_gets_wrong_is_told_before_anything_runs(
    outside: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    targets = {
        "data": "os.system",
        "model": "mine.Smallest",
        "eval": "mine.Count",
        "logger": "nowhere.Logger",
        "trainer": "mine.even_digits",
    }
    for group, target in targets.items():
        head = f"# @package {group}.wrong\n" if group in ("eval", "logger") else ""
        (outside / f"conf_mine/{group}/wrong.yaml").write_text(f"{head}_target_: {target}\n")
    (outside / "conf_mine/job/wrong.yaml").write_text("# @package _global_\njob:\n  _target_: subprocess.run\n")
    assert run(outside, *words) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert not list(Path().iterdir()), "a refused command leaves nothing"


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("conf_min", "--config-dir ../conf_min: there is no such folder. Did you mean '../conf_mine'?"),
        ("mine.py", "--config-dir ../mine.py: there is no such folder."),
        ("${x", "Hydra reads '${' and quotes in its path"),
        ("a" * 300, "has a name of 300 bytes, and 255 is the most"),
    ],
)
def test_a_folder_of_configs_that_cannot_be_is_told(
    outside: Path, capsys: pytest.CaptureFixture[str], folder: str, told: str
) -> None:
    assert main(["--config-dir", f"../{folder}", "dry_run=true"]) == 2
    assert told in capsys.readouterr().err
