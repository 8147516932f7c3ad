"""`resume=<url>`: another machine joins a search by its database alone, and leaves alone what it cannot see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna

from rcc.cli import main

URL = "sqlite:///studies.db"
SEARCH = ("-m", "hydra/sweeper=pareto", "hydra.sweep.dir=s", "stage.dare.target_sparsity=interval(0.2,0.9)")


def states(name: str) -> list[str]:
    return [trial.state.name for trial in optuna.load_study(study_name=name, storage=URL).trials]


def begun(stand_in: Any, *more: str) -> str:
    """A search that was interrupted in its second trial; the name of its study."""

    def job(cfg: Any, directory: Path) -> tuple[float, float]:
        if len(stand_in.configs) == 2:
            raise KeyboardInterrupt
        return 0.9, 1000.0

    stand_in.job = job
    assert main([*SEARCH, "n_trials=4", f"storage={URL}", *more]) == 130
    return str(json.loads(Path("s/sweep.json").read_text())["study"])


def test_trials_begun_elsewhere_are_left_alone_and_the_others_done_here(stand_in, capsys):
    name = begun(stand_in)
    capsys.readouterr()
    assert main([f"resume={URL}", "hydra.sweep.dir=there"]) == 0
    told = capsys.readouterr()
    assert f"joined the study {name} in {URL}; what is begun here lies in there" in told.out
    assert states(name) == ["COMPLETE", "RUNNING", "COMPLETE", "COMPLETE"]
    assert sorted(path.name for path in Path("there").iterdir() if path.name.isdecimal()) == ["2", "3"]
    assert "unfinished" in told.out
    assert main(["resume=there", f"storage={URL}", "n_trials=5"]) == 0, "it goes on as any other"
    assert states(name)[1] == "RUNNING"
    assert main(["resume=s", f"storage={URL}", "n_trials=5"]) == 0
    assert (states(name), len(stand_in.configs)) == (["COMPLETE"] * 5, 6)
    assert stand_in.configs[-1].resume == "s/1", "by its own folder, from its own state"


def test_a_study_is_named_where_there_are_several(stand_in, capsys):
    name = begun(stand_in)
    stand_in.job = lambda cfg, directory: (0.9, 1000.0)
    assert main([*SEARCH[:2], *SEARCH[3:], "hydra.sweep.dir=t", "n_trials=1", f"storage={URL}"]) == 0
    assert main([f"resume={URL}"]) == 2
    assert f"resume={URL}: there are 2 studies of sweeps in that database. Name one" in capsys.readouterr().err
    assert main([f"resume={URL}#other"]) == 2
    assert "no study of a sweep is called 'other'" in capsys.readouterr().err
    assert main([f"resume={URL}#{name}", "hydra.sweep.dir=there"]) == 0
    assert main([f"resume={URL}#{name}", "hydra.sweep.dir=there"]) == 2
    assert f"Go on with it: rcc-run resume=there storage={URL}" in capsys.readouterr().err


def test_what_names_code_is_said_again(stand_in, capsys):
    code = "logger.local._target_=rcc.reporting.observers.RunObserver"
    begun(stand_in, code)
    assert main([f"resume={URL}", "hydra.sweep.dir=there"]) == 2
    told = capsys.readouterr().err
    assert "code is never taken from a directory" in told
    assert f"rcc-run resume=there {code} storage={URL}" in told
    assert main(["resume=there", code, f"storage={URL}"]) == 0


def test_a_database_of_others_is_told(stand_in, capsys):
    optuna.create_study(study_name="theirs", storage=URL, directions=["minimize"]).set_user_attr("rcc_sweep", {"a": 1})
    assert main([f"resume={URL}"]) == 2
    assert "there are 0 studies of sweeps in that database. Start one with storage=." in capsys.readouterr().err
    assert main(["resume=nosuch://host/studies"]) == 2
    assert "the study in nosuch://host/studies cannot be used" in capsys.readouterr().err
    assert main([f"resume={URL}", f"storage={URL}"]) == 2
    assert "names the database; leave storage= out" in capsys.readouterr().err


def test_the_password_of_the_url_is_shown_nowhere(stand_in, capsys, monkeypatch):
    monkeypatch.setenv("RCC_STORAGE_PASSWORD", "none")
    assert main(["resume=nosuch://me:s3cret@host/studies"]) == 2
    told = capsys.readouterr()
    assert "s3cret" not in told.out + told.err
    assert not Path("multirun").exists()
