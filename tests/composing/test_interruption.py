"""Signals that ask the process to stop: one exception, echoes of one ignored, whatever was ignored stays ignored."""

from __future__ import annotations

import os
import signal

import pytest

from rcc.composing.interruption import ECHO_SECONDS, SIGNALS, Interrupted, exit_code, interruptible


@pytest.fixture(autouse=True)
def usual_signals():
    before = [signal.signal(number, signal.SIG_DFL) for number in SIGNALS]
    yield
    for number, held in zip(SIGNALS, before, strict=True):
        signal.signal(number, held)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_each_signal_raises_and_has_the_exit_code_that_shells_know(name, code):
    with pytest.raises(Interrupted) as raised, interruptible():
        os.kill(os.getpid(), getattr(signal, name))
    assert exit_code(raised.value) == code
    assert all(signal.getsignal(number) is signal.SIG_DFL for number in SIGNALS)


def test_an_interrupt_that_python_raised_itself_counts_as_ctrl_c():
    assert exit_code(KeyboardInterrupt()) == 130


def test_a_second_signal_at_once_does_not_break_off_what_the_first_one_started():
    ended = []

    def stopped_while_it_ends():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            ended.append(True)

    with pytest.raises(Interrupted, match="SIGTERM"), interruptible():
        stopped_while_it_ends()
    assert ended == [True]


def test_a_second_signal_later_on_is_heard(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rcc.composing.interruption.time.monotonic", lambda: now[0])

    def stopped_again_while_it_ends():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Interrupted:
            now[0] += ECHO_SECONDS
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="SIGINT"), interruptible():
        stopped_again_while_it_ends()


def test_what_ignores_a_hang_up_as_under_nohup_goes_on_ignoring_it():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interruptible():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_forked_worker_ends_by_the_signal_and_raises_nothing():
    with interruptible():
        child = os.fork()
        if child == 0:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGTERM
