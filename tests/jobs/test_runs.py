"""job=runs tells what runs and sweeps there are, from their files alone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from toys.adapters import compress, dense_toy
from toys.recorded import START, write_run, write_sweep

from rcc.artifact.write import write_artifact


@pytest.fixture
def some(tmp_path):
    """Four runs of different ends, one of them damaged, and a sweep."""
    day = tmp_path / "outputs/2026-11-20"
    write_run(day / "a", "stage=dare", kept=0.9, nbytes=300)
    write_run(day / "b", "seed=1", kept=0.8, nbytes=100, started=START - timedelta(days=1))
    write_run(day / "c", "seed=2", status="failed", started=START + timedelta(days=1))
    write_run(day / "d", status="running")
    (day / "e").mkdir()
    (day / "e/run.json").write_text("{")
    write_sweep(tmp_path / "multirun/2026-11-21/s", [(0.9, 100)], n_trials=3)
    return day


def listed(out):
    """The name and the status of each line of the list."""
    lines = out.splitlines()[2:]
    return [(line.split()[0].rpartition("/")[2], line.split()[1].rstrip(",")) for line in lines if line.strip()]


def test_every_run_and_sweep_is_listed_with_its_status_oldest_first(rcc_run, some):
    code, out, err = rcc_run("job=runs")
    assert code == 0, err
    assert listed(out) == [
        ("b", "finished"), ("a", "finished"), ("d", "stopped"), ("s", "stopped"), ("c", "failed"), ("e", "damaged"),
    ]  # fmt: skip
    assert "stopped, 1 of 3 trials" in out


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["status=failed"], ["c"]),
        (["status=[failed,damaged]"], ["c", "e"]),
        (["filter=seed=1"], ["b"]),
        (["filter=outputs", "status=finished", "sort=bytes"], ["b", "a"]),
        (["status=finished", "sort=retention", "reverse=true"], ["a", "b"]),
        (["sort=path", "status=finished"], ["a", "b"]),
        (["runs=[outputs/2026-11-20/a]"], ["a"]),
        (["runs=[multirun]"], ["s"]),
    ],
)
def test_they_are_filtered_and_sorted(rcc_run, some, given, names):
    code, out, err = rcc_run("job=runs", *given)
    assert code == 0, err
    assert [name for name, _ in listed(out)] == names


def test_an_empty_folder_has_none(rcc_run):
    assert rcc_run("job=runs")[:2] == (0, "No run or sweep in outputs, multirun.\n")


def test_a_run_and_a_sweep_are_shown_with_their_answer_tables_and_commands(rcc_run, some):
    code, out, err = rcc_run("job=runs", "action=show", "runs=[outputs/2026-11-20/a,multirun]")
    assert code == 0, err
    assert "clip_tiny takes 300 B on disk" in out
    assert "to run it again: rcc-run stage=dare" in out
    assert "1. dare (round 1)" in out
    assert "1 of 3 trials, 1 finished." in out
    assert "to go on with what is left: rcc-run resume=multirun/2026-11-21/s" in out


def test_a_damaged_run_is_shown_as_such(rcc_run, some):
    code, out, _ = rcc_run("job=runs", "action=show", "status=damaged")
    assert code == 0
    assert "e: damaged." in out


def test_two_runs_are_compared_by_what_differs(rcc_run, some):
    code, out, err = rcc_run("job=runs", "action=diff", "runs=[outputs/2026-11-20/b,outputs/2026-11-20/c]")
    assert code == 0, err
    assert [line.split() for line in out.splitlines() if line.startswith("seed")] == [["seed", "1", "2"]]


def test_a_sweep_or_a_run_alone_cannot_be_compared(rcc_run, some):
    for given in ("runs=[outputs/2026-11-20/a]", "runs=[outputs/2026-11-20/a,multirun]"):
        code, _, err = rcc_run("job=runs", "action=diff", given)
        assert (code, "compares two runs or more" in " ".join(err.split())) == (2, True)


def test_artifacts_are_verified_byte_for_byte(rcc_run, tmp_path):
    run = write_run(tmp_path / "run")
    write_artifact(compress(dense_toy()), run / "artifact", "float16", {})
    code, out, err = rcc_run("job=runs", "action=verify", "runs=[run]")
    assert (code, "sound" in out) == (0, True), err
    weights = run / "artifact/weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    code, out, err = rcc_run("job=runs", "action=verify", "runs=[run]")
    assert (code, "sound" in out, "1 of 1 are damaged." in err) == (1, False, True)


def test_a_finished_run_without_its_artifact_is_not_sound(rcc_run, some):
    code, out, _ = rcc_run("job=runs", "action=verify", "filter=seed=1")
    assert (code, "its artifact is not there" in out) == (1, True)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["action=lits"], "Did you mean 'list'?"),
        (["status=done"], "unknown status 'done'"),
        (["sort=name"], "unknown sort 'name'"),
        (["reverse=maybe"], "reverse is 'maybe'; it must be true or false."),
        (["yes=true"], "yes has no effect with action=list"),
        (["remove=runs", "action=verify"], "remove has no effect with action=verify"),
        (["action=clean", "remove=runs"], "remove=runs removes whole directories: say which"),
        (["runs=[nowhere]"], "runs: nowhere is no directory."),
        (["dry_run=false"], "dry_run=false has no effect"),
        (["filter=7"], "filter is 7; it must be a text."),
    ],
)
def test_what_is_wrong_is_said(rcc_run, given, told):
    code, _, err = rcc_run("job=runs", *given)
    assert (code, told in " ".join(err.split())) == (2, True), err
