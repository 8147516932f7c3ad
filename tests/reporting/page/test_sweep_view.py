"""The parts of a sweep's page hold the results of its trials."""

from __future__ import annotations

from toys.recorded import write_run, write_sweep

from rcc.reporting.page.sweep_view import sweep_view
from rcc.reporting.recorded.sweep import read_sweep

FALLING = [(1 - 0.01 * number, 200_000 - 10_000 * number) for number in range(12)]


def test_the_answer_counts_trials_and_names_the_ends_of_the_front(tmp_path):
    folder = write_sweep(tmp_path / "sweep", [(0.9, 100_000), (0.8, 150_000), (0.95, 200_000)], n_trials=4)
    assert sweep_view(read_sweep(folder)).answer == (
        "3 of 4 trials, 3 finished. On clip_tiny, digits, the front has 2: 100 kB keeping 90.00% (trial 0, 50.00×"
        " smaller) to 200 kB keeping 95.00% (trial 2, 25.00× smaller)."
    )


def test_every_trial_has_a_row_with_its_state_and_point(tmp_path):
    folder = write_sweep(tmp_path / "sweep", [(0.9, 100_000), (0.8, 150_000)], constraints=["retention>=0.85"])
    write_run(folder / "2", "stage.dare.target_sparsity=0.5", status="failed")
    (folder / "3").mkdir()
    (folder / "3/run.json").write_text("{")
    view = sweep_view(read_sweep(folder))
    rows = [[cell.text for cell in row] for row in view.trials.rows]
    assert [row[:2] for row in rows] == [
        ["0", "on the front"], ["1", "not retention>=0.85"], ["2", "failed"], ["3", "damaged"],
    ]  # fmt: skip
    assert view.trials.head[4] == "dare.target_sparsity"
    assert [row[4] for row in rows] == ["0.1", "0.9", "0.5", "-"]
    assert "trial 3: " in view.problems[0]
    assert view.answer.startswith("4 trials, 2 finished, 1 failed, 1 damaged.")


def test_importance_and_parallel_coordinates_are_drawn_of_enough_trials(tmp_path):
    view = sweep_view(read_sweep(write_sweep(tmp_path / "sweep", FALLING)))
    assert [name for name, _ in view.importance.rows] == ["dare.target_sparsity"]
    assert [axis.name for axis in view.parallel.axes] == ["dare.target_sparsity", "bytes", "retention"]
    assert len(view.parallel.lines) == 12
    assert len(view.times.gaps) == 1


def test_too_few_trials_are_not_weighed_and_it_says_so(tmp_path):
    view = sweep_view(read_sweep(write_sweep(tmp_path / "sweep", FALLING[:4])))
    assert view.importance is None
    assert view.unweighed == "4 trials finished; importance is weighed from 10 on."


def test_trials_of_two_data_sets_have_an_axis_each(tmp_path):
    folder = write_sweep(tmp_path / "sweep", [(0.9, 100)], space=["data=digits,cifar10"], points=[["data=digits"]])
    write_run(folder / "1", "data=cifar10", fingerprint="other")
    view = sweep_view(read_sweep(folder))
    assert [group.title for group in view.groups] == ["clip_tiny, digits", "clip_tiny, cifar10"]


def test_a_sweep_without_a_trial_has_a_page(tmp_path):
    view = sweep_view(read_sweep(write_sweep(tmp_path / "sweep", [], n_trials=3)))
    assert view.answer == "0 of 3 trials, 0 finished: none has an artifact that is what was asked for."
    assert (view.groups, view.parallel, view.times) == ([], None, None)


def test_commands_follow_from_the_state(tmp_path):
    folder = write_sweep(tmp_path / "sweep", [(0.9, 100)], n_trials=2)
    assert [each.does for each in sweep_view(read_sweep(folder)).commands] == [
        "search the same again", "go on with what is left", "add to it", "draw this page again",
    ]  # fmt: skip
    write_run(folder / "1", status="failed")
    assert "try what failed again" in [each.does for each in sweep_view(read_sweep(folder)).commands]
