"""A run that is told to stop, loses its terminal or its folder: how it ends and what it leaves."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time

import pytest

SLOW = (
    "debug=quick", "stage=dare+alpha", "stage.dare.solver=none", "stage.dare.allocation=uniform", "threads=1",
    "hydra.run.dir=run",
)  # fmt: skip
"""Reaches its second step within seconds and stays in it, for the epochs that are said."""
LONG = "stage.alpha.num_epochs=1000"


def wait_for_the_second_step(process, folder):
    while not list(folder.glob("run/state/step-001-*")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_run_that_is_told_to_stop_notes_it_and_says_how_to_continue(fresh_rcc_run, tmp_path, small_clip, name, code):
    process = fresh_rcc_run(*SLOW, *small_clip, LONG)
    wait_for_the_second_step(process, tmp_path)
    for _ in range(2):  # as `timeout` does: once to the process, once to its group
        process.send_signal(getattr(signal, name))
    output = process.communicate(timeout=60)[0]
    assert process.returncode == code, output
    assert "interrupted. Continue with: rcc-run resume=run" in output
    assert "Traceback" not in output
    manifest = json.loads((tmp_path / "run/run.json").read_text())
    assert (manifest["status"], manifest["attempts"][0]["status"]) == ("interrupted", "interrupted")
    assert manifest["attempts"][0]["finished"] is not None


def test_a_run_whose_terminal_hangs_up_notes_it(tmp_path, small_clip):
    terminal, side = pty.openpty()
    adopt = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
        " os.execv(sys.executable, [sys.executable, '-m', 'rcc.cli', *sys.argv[1:]])"
    )
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    process = subprocess.Popen(
        [sys.executable, "-c", adopt, *SLOW, *small_clip, LONG],
        cwd=tmp_path,
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    )
    signal.signal(signal.SIGHUP, before)
    os.close(side)
    wait_for_the_second_step(process, tmp_path)
    os.close(terminal)
    assert process.wait(timeout=60) == 129
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "interrupted"


def test_a_run_whose_folder_is_removed_failed_and_blames_no_input(fresh_rcc_run, tmp_path, small_clip):
    process = fresh_rcc_run(*SLOW, *small_clip, "stage.alpha.num_epochs=100")
    wait_for_the_second_step(process, tmp_path)
    (tmp_path / "run").rename(tmp_path / "gone")  # at one stroke, while the run goes on writing
    shutil.rmtree(tmp_path / "gone")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1, output
    assert "run was removed, renamed or emptied while the run in it was live" in output
    assert "Traceback" not in output
    assert not list(tmp_path.glob("run/artifact"))
