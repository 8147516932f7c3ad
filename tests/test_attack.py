"""The judge of `scripts/attack` sees what is not clean: hangs, crashes, memory, tracebacks, half-written files."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import small_disk
import torch
import trial
from trial import Running, Trial, Verdict


def judged(folder: Path, call: Callable[[], int], seconds: float = 20) -> Verdict:
    running = Running(Trial("a call", folder, call), seconds)
    while (verdict := running.verdict()) is None:
        time.sleep(0.002)
    return verdict


def raises() -> int:
    raise KeyError("key")


def half_writes() -> int:
    Path(".a.json.partial").touch()
    print("no")
    return 2


CASES = {
    "a traceback": (raises, ("exit code 70, not 0 or 2", "a traceback")),
    "another code": (lambda: print("no") or 3, ("exit code 3, not 0 or 2",)),
    "silence": (lambda: 2, ("no word to the user",)),
    "a signal": (lambda: os.kill(os.getpid(), signal.SIGKILL) or 0, ("killed by SIGKILL", "no word to the user")),
    "an address": (lambda: print(f"<object at {0x7F12345678:#x}>") or 0, ("the address of an object",)),
    "half a file": (half_writes, ("left .a.json.partial",)),
    "clean": (lambda: print("no") or 2, ()),
}


@pytest.mark.parametrize(("call", "complaints"), CASES.values(), ids=CASES)
def test_what_is_not_clean_is_named(tmp_path: Path, call: Callable[[], int], complaints: tuple[str, ...]) -> None:
    assert judged(tmp_path / "trial", call).complaints == complaints


def test_a_trial_that_does_not_end_is_ended(tmp_path: Path) -> None:
    def turns() -> int:
        while True:
            pass

    assert judged(tmp_path / "waits", lambda: time.sleep(60) or 0, seconds=0.02).complaints == ("no end after 0 s",)
    assert judged(tmp_path / "turns", turns, seconds=0.2).complaints == ("no end after 0 s",)


def test_a_trial_that_takes_too_much_memory_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "GIGABYTES", 0.1)

    def hoards() -> int:
        held = b"x" * 400_000_000
        time.sleep(60)
        return len(held)

    # However much of other files the parent has mapped: a fork does not hold that, and what it takes is counted from
    # what it holds.
    mapped = torch.from_file(str(tmp_path / "file"), shared=True, size=600_000_000, dtype=torch.uint8)
    mapped.fill_(1)
    ended, *taken = judged(tmp_path / "trial", hoards).complaints
    assert ended == "killed for its memory"
    assert all(said.startswith("took 0.") for said in taken)


@pytest.mark.parametrize("options", ["size=20k", "nr_inodes=2"])
def test_a_small_disk_is_full_for_its_process_alone(tmp_path: Path, options: str) -> None:
    if not small_disk.may_mount():
        pytest.skip("this user may not mount a disk")

    def fills() -> int:
        small_disk.mount(tmp_path, options)
        try:
            for number in range(3):
                (tmp_path / str(number)).write_text("x" * 10_000)
        except OSError as error:
            return error.errno or 0
        return 0

    assert judged(tmp_path / "trial", fills).code == errno.ENOSPC
    assert os.listdir(tmp_path) == ["trial"]
