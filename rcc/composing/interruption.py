"""Turn the signals that ask a program to stop into one exception, so that a run can note its end before it goes."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
ECHO_SECONDS = 1.0
"""`timeout`, shells and terminals send a signal to the process and again to its group: a second one so soon after the
first asks for nothing new, and would break off what the first one started."""


class Interrupted(KeyboardInterrupt):
    """The process was asked to stop by the signal of this number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_code(error: KeyboardInterrupt) -> int:
    """What shells report of a program that a signal ended: 128 and its number, 130 for Ctrl-C."""
    return 128 + (error.number if isinstance(error, Interrupted) else signal.SIGINT)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` in the block on SIGINT, SIGTERM and SIGHUP, as Python by itself does on SIGINT alone.

    What ignores a signal goes on ignoring it: under `nohup` a hang-up is no request to stop.
    """
    if threading.current_thread() is not threading.main_thread():  # no other may set handlers
        yield
        return
    stop = _Stop()
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: held for number in SIGNALS if (held := signal.getsignal(number)) in usual}
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, held in before.items():
            signal.signal(number, held)


class _Stop:
    """The handler of all of them."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.last = float("-inf")

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a worker that was forked from this process holds no run: it just ends
            self._end(number)
        before, self.last = self.last, time.monotonic()
        if self.last - before < ECHO_SECONDS:
            return
        _let_go_of_a_lost_terminal()
        raise Interrupted(number)

    @staticmethod
    def _end(number: int) -> NoReturn:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(128 + number)


def _let_go_of_a_lost_terminal() -> None:
    """Send output nowhere once its terminal has hung up, where every write is an error that would hide the signal."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a stream without a file descriptor, or closed
            number = stream.fileno()
            try:
                os.get_terminal_size(number)
            except OSError as error:
                if error.errno == errno.EIO:
                    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
