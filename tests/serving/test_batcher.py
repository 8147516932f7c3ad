"""Batches of what waits: nobody waits for ever, and one client's fault is nobody else's."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from rcc.serving.batcher import Batcher, DeadlineError, QueueFullError


class Worker:
    """Doubles numbers, once it may go on; remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[Any]]] = []
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, kind: str, values: Sequence[Any]) -> list[Any]:
        self.batches.append((kind, list(values)))
        self.begun.release()
        self.go.acquire()
        return [2 * value for value in values]


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def batcher(worker: Worker) -> Iterator[Batcher]:
    made = Batcher(worker, most=3, waiting=6)
    yield made
    for _ in range(20):
        worker.go.release()
    made.close()


def test_what_came_while_it_worked_is_one_batch_of_each_kind_in_order(batcher: Batcher, worker: Worker) -> None:
    (first,) = batcher.submit("text", [1], 60)
    worker.begun.acquire()
    later = [
        *batcher.submit("text", [2, 3], 60),
        *batcher.submit("image", [4], 60),
        *batcher.submit("text", [5, 6], 60),
    ]
    for _ in range(10):
        worker.go.release()
    assert first.result(10) == 2
    assert [each.result(10) for each in later] == [4, 6, 8, 10, 12]
    assert worker.batches == [("text", [1]), ("text", [2, 3, 5]), ("image", [4]), ("text", [6])]
    assert (batcher.batches, batcher.items) == (4, 6)


def test_what_does_not_fit_is_refused_whole_and_at_once(batcher: Batcher, worker: Worker) -> None:
    batcher.submit("text", [0], 60)
    worker.begun.acquire()
    batcher.submit("text", range(5), 60)
    with pytest.raises(QueueFullError):
        batcher.submit("text", [1, 2], 60)
    batcher.submit("text", [1], 60)
    assert len(batcher) == 6


def test_what_is_late_or_whose_client_left_is_not_computed(batcher: Batcher, worker: Worker) -> None:
    batcher.submit("text", [0], 60)
    worker.begun.acquire()
    (late,), (left,), (kept,) = (batcher.submit("text", [n], seconds) for n, seconds in ((1, 0), (2, 60), (3, 60)))
    assert left.cancel()
    for _ in range(3):
        worker.go.release()
    assert kept.result(10) == 6
    with pytest.raises(DeadlineError):
        late.result(10)
    assert worker.batches[1:] == [("text", [3])]


def test_an_item_that_cannot_be_done_costs_its_own_client_alone() -> None:
    def work(kind: str, values: Sequence[Any]) -> list[Any]:
        return [1 / value for value in values]

    batcher, ready = Batcher(lambda kind, values: ready.wait() and work(kind, values), 8, 8), threading.Event()
    found = batcher.submit("text", [0, 1, 2, 0, 4], 60)
    ready.set()
    with pytest.raises(ZeroDivisionError):
        found[0].result(10)
    assert [found[place].result(10) for place in (1, 2, 4)] == [1, 0.5, 0.25]
    assert isinstance(found[3].exception(10), ZeroDivisionError)
    batcher.close()


def test_closing_answers_what_was_taken_and_takes_no_more(worker: Worker) -> None:
    batcher = Batcher(worker, most=1, waiting=9)
    found = batcher.submit("text", [1, 2, 3], 60)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    worker.begun.acquire()
    for _ in range(3):
        worker.go.release()
    closing.join(10)
    assert [each.result(0) for each in found] == [2, 4, 6]
    with pytest.raises(QueueFullError):
        batcher.submit("text", [4], 60)
