"""Names that can be no names, in every option that takes one; code of the user's that ends the program."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from rcc.cli import main
from rcc.errors import UserError, WorkError
from rcc.models.registry import load_model

OPTIONS = (
    ["model=clip", "model.path"],
    ["model=clip_vision", "model.path"],
    ["model=module", "model.target=toys.networks:build", "eval=classification", "model.path"],
    ["model=module", "eval=classification", "model.target"],
    ["data=imagenet", "data.path"],
    ["data=image_text", "data.path"],
    ["data=coco", "data.images"],
    ["data=image_folder", "data.names"],
    ["eval=captioning", "model=blip", "eval.captioning.clip_score_model"],
    ["stage=nullu", "stage.nullu.paired_features"],
    ["stage=dare", "stage.dare.base"],
    ["job=evaluate", "artifact"],
    ["resume"],
)
NAMES = (
    "my model",
    "a" * 300,
    "./" + "a/" * 3000,
    "caf\udce9",
    "~nobody-of-this-name/x",
    "/dev/zero",
    "a//b",
    "a:b",
    "-",
    "☃",
)


@pytest.mark.parametrize("seed", range(len(OPTIONS)))
def test_a_name_that_leads_nowhere_is_refused_by_every_option_that_takes_one(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(seed)
    *words, option = OPTIONS[seed]
    value = draw.choice(NAMES)
    dry = [] if words[:1] == ["job=evaluate"] or option == "resume" else ["dry_run=true"]
    code = main([*words, f"{option}='{value}'", *dry])
    told = capfd.readouterr().err
    assert (code, "Traceback" in told) in ((2, False), (0, False)), (option, value, told)
    assert code == 0 or option.rpartition(".")[2] in told or value[:20] in told, (option, value, told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_model_by_such_a_name_is_refused_from_python_too(name: str) -> None:
    with pytest.raises(UserError):
        load_model("clip", path=name)


def test_a_text_of_a_config_that_holds_a_nul_is_refused_by_its_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own/data").mkdir(parents=True)
    (tmp_path / "own/data/odd.yaml").write_text('_target_: rcc.data.sets.imagenet.load_imagenet\npath: "a\\0b"\n')
    assert main(["--config-dir", "own", "data=odd", "dry_run=true"]) == 2
    assert "data.path 'a\0b' holds a NUL character" in capfd.readouterr().err


@pytest.mark.parametrize("where", ["the module", "the function"])
def test_code_that_ends_the_program_has_failed(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"ends_{where[4:]}"
    (tmp_path / f"{name}.py").write_text(
        "import sys\nsys.exit(0)" if where == "the module" else "import sys\ndef build():\n    sys.exit(0)\n"
    )
    with pytest.raises(WorkError, match=rf"model\.target '{name}:build' ended the program with sys\.exit\(0\)"):
        load_model("module", target=f"{name}:build", path="weights.safetensors")
    sys.modules.pop(name, None)


def test_a_plugin_that_ends_the_program_is_a_failure_and_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own/data").mkdir(parents=True)
    (tmp_path / "own/data/ends.yaml").write_text("_target_: ends_data.load\n")
    (tmp_path / "ends_data.py").write_text(
        "import sys\nfrom rcc.data.splits import Splits\ndef load() -> Splits:\n    sys.exit(0)\n"
    )
    assert main(["--config-dir", "own", "data=ends", "job=evaluate", "hydra.run.dir=out"]) == 1
    assert "ended the program with sys.exit(0); the job was not finished" in capfd.readouterr().err
