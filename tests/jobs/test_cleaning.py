"""action=clean removes what was asked for and agreed to, and nothing that rcc did not make or a process holds."""

from __future__ import annotations

import io

import pytest
from filelock import FileLock
from toys.recorded import write_run, write_sweep

CLEAN = ("job=runs", "action=clean")


def tree(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def with_state(run):
    (run / "state/step-000-initial").mkdir(parents=True)
    (run / "state/step-000-initial/weights.safetensors").write_bytes(b"x" * 1000)
    return run


@pytest.fixture
def terminal(monkeypatch):
    """A terminal on which an answer is typed."""

    class Typed(io.StringIO):
        def isatty(self):
            return True

    return lambda answer: monkeypatch.setattr("sys.stdin", Typed(f"{answer}\n"))


def test_checkpoints_of_finished_runs_go_and_all_else_stays(rcc_run, tmp_path):
    one, two = with_state(write_run(tmp_path / "one")), with_state(write_run(tmp_path / "two", status="failed"))
    (two / ".artifact.partial").mkdir()
    before = tree(tmp_path)
    code, out, err = rcc_run(*CLEAN, "runs=[.]", "yes=true")
    assert code == 0, err
    gone = {"one/state", "one/state/step-000-initial", "one/state/step-000-initial/weights.safetensors"}
    assert before - tree(tmp_path) == gone | {"two/.artifact.partial"}
    assert "Removed 2, 1.00 kB." in out
    assert (one / "run.json").exists()


def test_checkpoints_of_finished_trials_go_too_and_what_these_shared(rcc_run, tmp_path):
    sweep = write_sweep(tmp_path / "sweep", [(0.9, 100), (0.8, 50)])
    with_state(sweep / "1")
    (sweep / "shared").mkdir()
    assert rcc_run(*CLEAN, "runs=[sweep]", "yes=true")[0] == 0
    assert not (sweep / "1/state").exists()
    assert not (sweep / "shared").exists()
    assert (sweep / "1/run.json").exists()


def test_whole_runs_and_sweeps_go_where_they_are_named(rcc_run, tmp_path):
    write_run(tmp_path / "failed", status="failed")
    write_run(tmp_path / "good")
    write_sweep(tmp_path / "sweep", [(0.9, 100)])
    assert rcc_run(*CLEAN, "remove=runs", "runs=[.]", "status=failed", "yes=true")[0] == 0
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["good", "sweep"]
    assert rcc_run(*CLEAN, "remove=runs", "runs=[sweep]", "yes=true")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


def test_without_a_terminal_it_must_be_agreed_to(rcc_run, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with_state(write_run(tmp_path / "run"))
    before = tree(tmp_path)
    code, out, err = rcc_run(*CLEAN, "runs=[run]")
    assert (code, "say yes=true" in err, "run/state" in out) == (2, True, True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("answer", "goes"), [("y", True), ("yes", True), ("n", False), ("", False), ("maybe", False)])
def test_on_a_terminal_it_asks(rcc_run, tmp_path, terminal, answer, goes):
    run = with_state(write_run(tmp_path / "run"))
    terminal(answer)
    code, _, err = rcc_run(*CLEAN, "runs=[run]")
    assert ((run / "state").exists(), code) == (not goes, 0 if goes else 2), err


def test_what_a_process_holds_stays(rcc_run, tmp_path):
    run = with_state(write_run(tmp_path / "run"))
    live = write_run(tmp_path / "live", status="running")
    sweep = write_sweep(tmp_path / "sweep", [(0.9, 100)])
    (sweep / ".claims").mkdir()
    with FileLock(run / ".lock"), FileLock(live / ".lock"), FileLock(sweep / ".claims/5"):
        code, out, err = rcc_run(*CLEAN, "remove=runs", "runs=[.]", "yes=true")
    assert code == 0, err
    assert (run.exists(), live.exists(), sweep.exists()) == (True, True, True)
    assert out.count("a process works in it") == 2
    assert "0 of 1: the others were taken up meanwhile" in out


@pytest.mark.parametrize("place", ["notes.txt", "0/notes.txt"])
def test_a_folder_that_holds_anything_else_stays(rcc_run, tmp_path, place):
    run = write_run(tmp_path / "run") if "/" not in place else write_sweep(tmp_path / "run", [(0.9, 100)])
    (run / place).write_text("mine")
    code, out, _ = rcc_run(*CLEAN, "remove=runs", "runs=[run]", "yes=true")
    assert (code, f"it holds what no run makes: {place}" in out, (run / place).read_text()) == (0, True, "mine")


def test_a_damaged_folder_stays(rcc_run, tmp_path):
    run = write_run(tmp_path / "run")
    (run / "run.json").write_text("{")
    code, out, _ = rcc_run(*CLEAN, "remove=runs", "runs=[run]", "yes=true")
    assert (code, "damaged, so that nothing says that rcc made it" in out, run.exists()) == (0, True, True)


def test_the_current_folder_stays(rcc_run, tmp_path):
    write_run(tmp_path / "run").rename(tmp_path / "old")
    for entry in (tmp_path / "old").iterdir():
        entry.rename(tmp_path / entry.name)
    (tmp_path / "old").rmdir()
    code, out, _ = rcc_run(*CLEAN, "remove=runs", "runs=[.]", "yes=true")
    assert (code, "it holds the current folder" in out) == (0, True)
    assert (tmp_path / "run.json").exists()


def test_links_are_not_followed(rcc_run, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine")
    run = write_run(tmp_path / "runs/run")
    (run / "state").symlink_to(mine)
    assert rcc_run(*CLEAN, "runs=[runs]", "yes=true")[0] == 0
    (run / "state").unlink()
    (run / "artifact").symlink_to(mine)
    assert rcc_run(*CLEAN, "remove=runs", "runs=[runs]", "yes=true")[0] == 0
    assert ((mine / "file").read_text(), run.exists()) == ("mine", False)


def test_nothing_to_remove_is_said(rcc_run, tmp_path):
    write_run(tmp_path / "run")
    assert rcc_run(*CLEAN, "runs=[run]")[:2] == (0, "Nothing to remove.\n")
