"""job=report draws one page of what it is given, and writes nothing else."""

from __future__ import annotations

import pytest
from toys.recorded import write_run, write_sweep


def written(folder, before):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - before


@pytest.fixture
def runs(tmp_path):
    """A run, a sweep, and the files that are there with them."""
    write_run(tmp_path / "run")
    write_sweep(tmp_path / "sweep", [(0.9, 100_000)])
    return {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", ["run", "sweep"])
def test_the_page_of_one_lies_in_its_folder(rcc_run, tmp_path, runs, place):
    code, out, err = rcc_run("job=report", f"runs=[{place}]")
    assert (code, out.startswith(f"{place}/report.html: ")) == (0, True), err
    assert written(tmp_path, runs) == {f"{place}/report.html"}


def test_the_page_of_several_lies_in_the_current_folder_or_where_it_is_told(rcc_run, tmp_path, runs):
    assert rcc_run("job=report", "runs=[run,sweep]")[0] == 0
    assert rcc_run("job=report", "runs=[run,sweep]", "out=there/both.html")[0] == 0
    assert written(tmp_path, runs) == {"report.html", "there/both.html"}
    assert "sweep/0" in (tmp_path / "there/both.html").read_text()


def test_everything_that_is_wrong_is_said_at_once(rcc_run, tmp_path, runs):
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine.html").write_text("mine")
    code, _, err = rcc_run("job=report", "runs=[rum,empty]", "out=mine.html", "dry_run=false")
    told = " ".join(err.split())
    assert code == 2
    assert "runs: rum is no directory. Did you mean 'run'?" in told
    assert "empty holds neither a run nor a sweep" in told
    assert "mine.html is there and is no report that rcc wrote" in told
    assert "dry_run=false has no effect" in told
    assert written(tmp_path, runs) == {"mine.html"}


@pytest.mark.parametrize("given", [[], ["runs=[]"], ["runs=7"], ["runs=[7]"]])
def test_runs_must_be_given(rcc_run, given):
    code, _, err = rcc_run("job=report", *given)
    assert code == 2
    assert "runs" in err


def test_a_damaged_run_is_refused_by_name(rcc_run, tmp_path, runs):
    (tmp_path / "run/run.json").write_text("{")
    code, _, err = rcc_run("job=report", "runs=[run]")
    assert (code, "run/run.json cannot be read" in " ".join(err.split())) == (2, True)
    assert written(tmp_path, runs) == set()
