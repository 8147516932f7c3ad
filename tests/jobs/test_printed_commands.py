"""What a run prints to be typed next runs when it is pasted, wherever the run lies."""

import shlex

import pytest

SMALL = (
    "debug=quick", "threads=1", "data.train=20", "data.calibration=10", "data.selection=10", "data.test=10",
    "stage=dare", "stage.dare.solver=none", "stage.dare.allocation=uniform", "stage.dare.target_sparsity=0.5",
)  # fmt: skip


@pytest.mark.parametrize("name", ['a b\'s "run", é=#1', "[x,y]", "{a: 1} $HOME ~&;"])
def test_printed_commands_run_when_pasted_in_a_directory_of_any_name(rcc_run, tmp_path, small_clip, name):
    code, out, err = rcc_run(*SMALL, *small_clip, f"hydra.run.dir={name}")
    assert code == 0, err
    assert (tmp_path / name / "artifact/manifest.json").is_file()
    (again,) = [line.partition(": ")[2] for line in out.splitlines() if ": rcc-run " in line]
    assert again in (tmp_path / name / "report.md").read_text()
    code, out, err = rcc_run(*shlex.split(again)[1:])
    assert code == 0, err
    assert "yes" in out, "the numbers are those that were recorded"
    code, _, err = rcc_run(*SMALL, *small_clip, f"hydra.run.dir={name}")
    assert code == 2
    resume = err.split("Continue it with `")[1].split("`, or")[0]
    code, out, err = rcc_run(*shlex.split(resume)[1:])
    assert (code, "has already finished" in out) == (0, True), err
