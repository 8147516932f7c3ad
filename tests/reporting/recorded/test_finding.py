"""Runs and sweeps are found below a folder, damaged ones among them."""

from __future__ import annotations

from toys.recorded import write_run, write_sweep

from rcc.reporting.recorded.finding import found_in, size_of


def test_runs_and_sweeps_are_found_and_trials_belong_to_their_sweep(tmp_path):
    write_run(tmp_path / "outputs/day/one")
    write_sweep(tmp_path / "multirun/day/two", [(0.9, 100)])
    found = found_in([tmp_path])
    assert [(each.place.name, each.sweep is not None) for each in found] == [("two", True), ("one", False)]
    assert [each.place.name for each in found_in([tmp_path / "multirun/day/two/0"])] == ["0"]


def test_what_cannot_be_read_is_damaged_and_never_an_error(tmp_path):
    write_run(tmp_path / "good")
    for name, content in (("empty", ""), ("deep", "[" * 100_000), ("other", '{"format": 7}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(content)
    (tmp_path / "folder/run.json").mkdir(parents=True)
    (tmp_path / "link").mkdir()
    (tmp_path / "link/run.json").symlink_to(tmp_path / "link/run.json")
    found = {each.place.name: each for each in found_in([tmp_path])}
    assert found["good"].status == "finished"
    assert {name for name, each in found.items() if each.status == "damaged"} == {
        "empty", "deep", "other", "folder", "link",
    }  # fmt: skip
    assert all(found[name].problem for name in ("empty", "deep", "other"))


def test_links_to_folders_are_not_followed(tmp_path):
    write_run(tmp_path / "elsewhere/run")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/link").symlink_to(tmp_path / "elsewhere")
    assert found_in([tmp_path / "here"]) == []


def test_a_place_that_is_named_twice_is_found_once(tmp_path):
    run = write_run(tmp_path / "run")
    assert len(found_in([run, tmp_path])) == 1


def test_the_size_is_that_of_all_files(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/one").write_bytes(b"x" * 10)
    (tmp_path / "a/b/two").write_bytes(b"x" * 5)
    assert size_of(tmp_path / "a") == 15
