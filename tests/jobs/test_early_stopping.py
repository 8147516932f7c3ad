"""A real trial reports its steps, and ends as abandoned when its search says so."""

from __future__ import annotations

import json

from rcc.jobs import early_stopping
from rcc.sweeps.watching import Watch, watched


class Stops(Watch):
    """Says to stop after the first step, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked = []

    def ask(self, report, expected):
        self.asked.append((report, expected))
        return "others keep more" if report.step == 1 else ""


def test_a_trial_is_abandoned_after_the_step_that_decided_it_and_again_when_resumed(
    rcc_run, tmp_path, small_clip, monkeypatch
):
    stops = Stops()
    monkeypatch.setattr(early_stopping, "watch_here", lambda: stops)
    code, out, err = rcc_run("debug=quick", *small_clip, "stage=dare+quant", "hydra.run.dir=s")
    assert code == 0, err
    assert "Abandoned after step 1 of 2: others keep more." in out
    record = json.loads((tmp_path / "s/run.json").read_text())
    assert (record["status"], record["abandoned"]) == ("abandoned", "after step 1 of 2: others keep more")
    assert record["attempts"][0]["status"] == "abandoned"
    assert not (tmp_path / "s/artifact").exists()
    (dense, expected), (pruned, again) = stops.asked
    assert [(report.step, report.left) for report in (dense, pruned)] == [(0, ("dare", "quant")), (1, ("quant",))]
    assert dense.retention == 1.0
    assert expected == again
    assert 0 < expected < dense.nbytes
    assert pruned.nbytes < dense.nbytes
    assert "its search abandoned it after step 1 of 2" in (tmp_path / "s/report.html").read_text()
    assert rcc_run("resume=s")[0] == 0
    assert len(stops.asked) == 2, "it is done"
    record["status"] = record["attempts"][0]["status"] = "running"  # killed before it said so
    (tmp_path / "s/run.json").write_text(json.dumps(record))
    code, out, err = rcc_run("resume=s")
    assert code == 0, err
    assert stops.asked[2:] == [(pruned, expected)]
    assert json.loads((tmp_path / "s/run.json").read_text())["status"] == "abandoned"


def test_a_run_that_nobody_watches_is_not_asked():
    with watched(None):
        assert early_stopping.question(None, None, None) is None  # type: ignore[arg-type]
