"""A run that has finished stays finished, whatever becomes of its page."""

from __future__ import annotations

import json

import pytest

from rcc.jobs import pages

QUICK = ("debug=quick", "threads=1", "stage=dare")


@pytest.fixture
def broken(monkeypatch):
    """Drawing fails for a reason that nobody foresaw."""

    def fail(*arguments):
        raise ZeroDivisionError("no room")

    monkeypatch.setattr(pages, "write_page", fail)
    monkeypatch.setattr(pages, "write_pictures", fail)


def test_a_run_leaves_a_page_with_pictures_of_what_changed(rcc_run, tmp_path, small_clip):
    code, _, err = rcc_run(*QUICK, *small_clip, "hydra.run.dir=run")
    assert code == 0, err
    page = (tmp_path / "run/report.html").read_text()
    assert "Items that changed" in page
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert (record["status"], record["result"]["primary"]) == ("finished", "accuracy")
    changed = json.loads((tmp_path / "run/pictures.json").read_text())["pictures"]
    assert page.count("<img ") == len(changed)


def test_a_page_that_cannot_be_drawn_is_a_warning(rcc_run, tmp_path, small_clip, broken):
    code, out, err = rcc_run(*QUICK, *small_clip, "hydra.run.dir=run")
    assert code == 0, err
    assert "warning: report.html could not be written (ZeroDivisionError: no room)" in out
    assert "rcc-run job=report 'runs=[" in out
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "finished"
    assert not (tmp_path / "run/report.html").exists()


def test_a_sweep_leaves_a_page_and_a_warning_where_it_cannot(rcc_run, tmp_path, small_clip, monkeypatch):
    arguments = ("-m", *QUICK, *small_clip, "seed=0,1")
    code, out, err = rcc_run(*arguments, "hydra.sweep.dir=sweep")
    assert (code, "Report: " in out) == (0, True), err
    assert "2 trials, 2 finished." in (tmp_path / "sweep/report.html").read_text()
