"""A study in PostgreSQL: made by several processes at once, its password in no file. Skipped where no server is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toys.postgresql import PASSWORD, binaries, server

from rcc.cli import main
from rcc.sweeps.storage import PASSWORD as VARIABLE
from rcc.sweeps.storage import alone, without_password

pytest.importorskip("psycopg", reason="pip install 'rcc[postgresql]'")
pytestmark = pytest.mark.skipif(binaries() is None, reason="PostgreSQL's server is not installed")
SEARCH = ("-m", "hydra/sweeper=pareto", "hydra.sweep.dir=s", "stage.dare.target_sparsity=interval(0.2,0.9)")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    programs = binaries()
    assert programs is not None
    with server(programs) as found:
        yield found


def test_processes_that_open_one_new_database_at_once_all_open_it(url):
    code = f"from rcc.sweeps.storage import database; database({url!r})"
    all_three = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(3)]
    for process in all_three:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()


def test_a_search_goes_on_with_the_password_said_again_or_in_the_environment(url, stand_in, capsys, monkeypatch):
    monkeypatch.setenv(VARIABLE, "none")
    assert main([*SEARCH, "n_trials=2", f"storage={url}"]) == 0
    monkeypatch.setenv(VARIABLE, "wrong")
    shown = f"storage={without_password(url)}"
    assert main(["resume=s", "n_trials=3", shown]) == 2
    assert "password authentication failed" in capsys.readouterr().err
    monkeypatch.setenv(VARIABLE, PASSWORD)
    assert main(["resume=s", "n_trials=3", shown]) == 0
    assert main(["resume=s", "n_trials=4", f"storage={url}"]) == 0
    told = capsys.readouterr()
    assert len(stand_in.configs) == 4
    files = [path.read_text() for path in Path("s").rglob("*") if path.is_file()]
    assert not [
        text for text in (told.out, told.err, *files) if PASSWORD in text or PASSWORD.replace("/", "%2F") in text
    ]


def test_another_machine_joins_by_the_database_alone(url, stand_in, capsys, monkeypatch):
    monkeypatch.setenv(VARIABLE, PASSWORD)

    def stops(cfg: Any, directory: Path) -> tuple[float, float]:
        if len(stand_in.configs) == 2:
            raise KeyboardInterrupt
        return 0.9, 1000.0

    stand_in.job = stops
    search = [*SEARCH[:2], "hydra.sweep.dir=here", *SEARCH[3:], "n_trials=3"]
    assert main([*search, f"storage={url}"]) == 130
    study = json.loads(Path("here/sweep.json").read_text())["study"]
    assert main([f"resume={without_password(url)}#{study}", "hydra.sweep.dir=there"]) == 0
    assert (sorted(path.name for path in Path("there").glob("[0-9]*")), "unfinished" in capsys.readouterr().out) == (
        ["2"],
        True,
    )
    assert main(["resume=here", f"storage={url}"]) == 0
    assert stand_in.configs[-1].resume == "here/1"


def test_one_process_at_a_time_chooses_from_a_database(url):
    code = f"from rcc.sweeps.storage import alone\nwith alone({url!r}): print('held', flush=True)"
    with alone(url):
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(2)
    assert other.communicate()[0] == b"held\n"
