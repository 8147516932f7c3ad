"""A run is told in a sentence, with its commands and its numbers."""

from __future__ import annotations

from toys.recorded import write_run

from rcc.reporting.page.wording import answer, commands, facts
from rcc.reporting.recorded.run import read_run


def test_the_answer_of_a_finished_run_has_its_bytes_what_it_keeps_and_the_change(tmp_path):
    assert answer(read_run(write_run(tmp_path / "run"))) == (
        "clip_tiny takes 200 kB on disk, 25.00 times less than 5.00 MB in float32, and keeps 98.99% of the dense"
        " model's accuracy on the test split: 98.00% after 99.00%, a change of -1.00 points (-2.0 … +0.5)."
    )


def test_a_missed_target_is_part_of_the_answer(tmp_path):
    told = answer(read_run(write_run(tmp_path / "run", missed="the gate refused the last step.")))
    assert told.endswith("Its target in bytes was missed: the gate refused the last step.")


def test_the_answer_of_a_stopped_run_is_how_far_it_came(tmp_path):
    told = answer(read_run(write_run(tmp_path / "run", status="failed")))
    assert told == (
        "dare → quant on clip_tiny, digits: failed after 2 of 2 steps; so far its weights take 200 kB (12.50× smaller"
        " than the dense ones) and it keeps 99.00% on the selection split."
    )


def test_a_run_without_a_step_says_so(tmp_path):
    directory = write_run(tmp_path / "run", status="failed")
    (directory / "metrics.jsonl").unlink()
    assert "after 0 of 2 steps; nothing is known" in answer(read_run(directory))


def test_a_run_of_another_job_is_told_as_such(tmp_path):
    run = write_run(tmp_path / "run", "job=train", "data=cifar10", status="interrupted", labels=[])
    told = "job=train on cifar10: interrupted. It is no compression; what it came to is in its own files."
    assert answer(read_run(run)) == told
    assert [each.does for each in commands(read_run(run))] == ["run it again", "draw this page again"]
    (run / "training").mkdir()
    assert commands(read_run(run))[1].line == f"rcc-run resume={run}"


def test_commands_repeat_resume_and_draw_again(tmp_path):
    finished = commands(read_run(write_run(tmp_path / "one", "seed=3")))
    assert [each.line for each in finished] == ["rcc-run seed=3", f"rcc-run job=report 'runs=[{tmp_path / 'one'}]'"]
    stopped = commands(read_run(write_run(tmp_path / "two", "model.target=mine:Net", status="failed")))
    assert stopped[1].line == f"rcc-run resume={tmp_path / 'two'} model.target=mine:Net"
    assert "only if you trust" in stopped[1].note


def test_facts_leave_out_what_is_not_known(tmp_path):
    told = dict(facts(read_run(write_run(tmp_path / "run"))))
    assert told["code"] == "abc123"
    assert told["took"] == "30.0 s"
    assert all(told.values())
