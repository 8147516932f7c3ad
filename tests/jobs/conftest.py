"""`rcc-run` in this process and in a fresh one, in an empty folder of the test's own."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def rcc_run(tmp_path, monkeypatch, capsys):
    """Runs a command line in-process; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        from rcc.cli import main

        code = main(list(arguments))
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def fresh_rcc_run(tmp_path):
    """Starts a command line in a process of its own, in the same folder as `rcc_run`."""

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "rcc.cli", *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    return start
