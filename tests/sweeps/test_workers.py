"""Processes that share a command: what ends them is told, none is left behind, each has its share of the threads."""

from __future__ import annotations

import signal
import sys
import time

import pytest

from rcc.sweeps import workers as module
from rcc.sweeps.workers import THREADS, Workers, environment


def running(code: str, count: int, folder):
    return Workers([sys.executable, "-c", code], count, folder)


def test_workers_write_to_files_of_their_own_and_are_told_once_when_they_end(tmp_path):
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers/1.log").write_text("of another machine")
    with running("print('hello')", 2, tmp_path) as workers:
        ended = []
        while workers.running:
            ended += workers.ended()
            time.sleep(0.01)
    assert [worker.died for worker in ended] == ["", ""]
    assert sorted(path.read_text() for path in (tmp_path / "workers").iterdir()) == [
        "hello\n",
        "hello\n",
        "of another machine",
    ]


def test_the_signal_that_killed_a_worker_is_named(tmp_path):
    with running("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 1, tmp_path) as workers:
        ended = []
        while workers.running:
            ended += workers.ended()
    assert [worker.died for worker in ended] == ["SIGKILL"]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals of POSIX")
def test_an_interruption_asks_all_to_end_and_waits_for_what_they_note(tmp_path):
    code = (
        "import os, signal, time\n"
        "def note(*_):\n    os.write(1, b'noted\\n'); os._exit(143)\n"
        "signal.signal(signal.SIGTERM, note)\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    workers = running(code, 2, tmp_path).__enter__()
    logs = [worker.log for worker in workers.running]
    while not all(log.read_text() for log in logs):
        time.sleep(0.01)
    workers.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert [log.read_text() for log in logs] == ["ready\nnoted\n"] * 2
    assert not workers.running


def test_a_worker_that_does_not_end_when_asked_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    code = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    with running(code, 1, tmp_path) as workers:
        (worker,) = workers.running
        while not worker.log.read_text():
            time.sleep(0.01)
    assert worker.died == "SIGKILL"


@pytest.mark.parametrize(
    ("asked", "count", "each"), [("8", 2, "4"), ("2", 3, "1"), ("1", 1, "1")], ids=["shared", "one at least", "alone"]
)
def test_threads_are_divided(asked, count, each):
    assert environment(count, {THREADS: asked, "HOME": "h"}) == {THREADS: each, "HOME": "h"}
    assert int(environment(1, {})[THREADS]) >= 1
    assert int(environment(1, {THREADS: "many"})[THREADS]) >= 1
