"""Compute the requests of many clients in batches: one worker a model, which takes whatever waits when it is free.

No timer holds a request back: a lone one starts at once, and under load those that came meanwhile share the next pass.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Work = Callable[[str, Sequence[Any]], Sequence[Any]]
"""Does the items of one kind, in order."""


class QueueFullError(Exception):
    """More items wait than are allowed; the client may come again."""


class DeadlineError(Exception):
    """The deadline of an item was over before its turn came."""


@dataclass
class _Item:
    kind: str
    value: Any
    deadline: float
    done: Future[Any] = field(default_factory=Future)


class Batcher:
    """A bounded queue and the thread that empties it.

    Args:
        work: is given up to `most` items of one kind at a time.
        most: items of a batch, 1 or more.
        waiting: items that may wait, those in work not counted.
    """

    def __init__(self, work: Work, most: int, waiting: int) -> None:
        self.work, self.most, self.waiting = work, most, waiting
        self.batches = self.items = 0
        self._queue: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Items that wait."""
        return len(self._queue)

    def submit(self, kind: str, values: Sequence[Any], seconds: float) -> list[Future[Any]]:
        """A future for each value, all of them or none.

        Args:
            seconds: after which an item that was not begun is given up.

        Raises:
            QueueFullError: they do not fit into what may wait, or the batcher was closed.
        """
        items = [_Item(kind, value, time.monotonic() + seconds) for value in values]
        with self._changed:
            if not self._open or len(self._queue) + len(items) > self.waiting:
                raise QueueFullError
            self._queue.extend(items)
            self._changed.notify()
        return [item.done for item in items]

    def close(self) -> None:
        """Take no more, and wait until what was taken is done."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            if batch:
                self._do(batch)

    def _next(self) -> list[_Item] | None:
        """The next items of one kind, in the order in which they came; None where nothing will come any more."""
        with self._changed:
            while not self._queue:
                if not self._open:
                    return None
                self._changed.wait()
            kind = self._queue[0].kind
            chosen = [item for item in self._queue if item.kind == kind][: self.most]
            taken = {id(item) for item in chosen}
            self._queue = deque(item for item in self._queue if id(item) not in taken)
        now, begun = time.monotonic(), []
        for item in chosen:
            if item.deadline < now:
                if item.done.set_running_or_notify_cancel():
                    item.done.set_exception(DeadlineError())
            elif item.done.set_running_or_notify_cancel():  # False where its client left
                begun.append(item)
        return begun

    def _do(self, batch: list[_Item]) -> None:
        self.batches, self.items = self.batches + 1, self.items + len(batch)
        try:
            results = self.work(batch[0].kind, [item.value for item in batch])
            for item, result in zip(batch, results, strict=True):
                item.done.set_result(result)
        except Exception as error:
            if len(batch) == 1:
                batch[0].done.set_exception(error)
                return
            for item in batch:  # one that cannot be done costs its own client alone
                self._do([item])
