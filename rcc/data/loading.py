"""Prepare batches ahead in threads, so that reading and decoding items hides behind the model's compute."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from rcc.data.splits import Split
from rcc.errors import Problems, UserError
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter

FEWEST, MOST = 2, 8
"""Threads that prepare batches, and batches that they may be ahead: on a small machine, and on any."""


def _usual_workers() -> int:
    return min(MOST, max(FEWEST, torch.get_num_threads() // 2))


def batches_held() -> int:
    """Prepared batches that are in memory at a time, where nothing else is asked for: the one in use, the next one, and
    those kept ready after that."""
    return 2 + _usual_workers()


class Prepared:
    """The batches of a split in order, as the adapter prepares them; threads decode the next ones meanwhile.

    Each iteration starts anew. An error in a thread is raised when its batch is asked for. The threads end with the
    iteration, also when it is left early.

    Attributes:
        waited: seconds for which the consumer waited for a batch, in the latest iteration.
        total: seconds from the start of that iteration to its end, or to its latest batch.
    """

    def __init__(
        self,
        adapter: Adapter,
        split: Split,
        batches: Sequence[NDArray[np.int64]],
        fields: Sequence[str],
        ahead: int,
        workers: int,
    ) -> None:
        self.adapter, self.split, self.batches = adapter, split, batches
        self.fields, self.ahead = tuple(fields), ahead
        # A tokenizer holds its padding and truncation settings, so two threads must not share one.
        self.workers = 1 if "texts" in self.fields else workers
        self.waited = self.total = 0.0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        self.waited = self.total = 0.0
        started = time.perf_counter()
        coming = iter(self.batches)
        threads = ThreadPoolExecutor(self.workers, thread_name_prefix="rcc-prepare")
        try:
            futures: deque[Future[Batch]] = deque()
            while True:
                # The one about to be handed out, and `ahead` after it.
                while len(futures) <= self.ahead and (indices := next(coming, None)) is not None:
                    futures.append(threads.submit(self._prepare, indices))
                if not futures:
                    break
                asked = time.perf_counter()
                batch = futures.popleft().result()
                now = time.perf_counter()
                self.waited, self.total = self.waited + now - asked, now - started
                yield batch
                del batch  # else its memory would stay while the next one is waited for
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
            self.total = time.perf_counter() - started

    @property
    def idle_share(self) -> float:
        """Share of the time, 0..1, for which the consumer waited for data."""
        return self.waited / self.total if self.total else 0.0

    def _prepare(self, indices: NDArray[np.int64]) -> Batch:
        return self.adapter.prepare(**self.split.items(indices, self.fields))


def readable_fields(adapter: Adapter, split: Split) -> tuple[str, ...]:
    """The fields that the adapter reads and the split has, in the adapter's order.

    Raises:
        UserError: there is none; says what the model reads and what the split has.
    """
    found = tuple(name for name in adapter.reads if name in split.fields)
    if not found:
        raise UserError(
            f"the model '{adapter.name}' reads {' and '.join(adapter.reads) or 'no field'}, and split '{split.name}' of"
            f" the data has {', '.join(split.fields)}. Choose data that has what the model reads."
        )
    return found


def batch_of(adapter: Adapter, split: Split, start: int = 0, stop: int | None = None, labels: bool = False) -> Batch:
    """The items from `start` up to `stop` as one batch of what the adapter reads, with `labels` where these are asked
    for and there.

    Raises:
        UserError: the split has nothing that the adapter reads, or an item cannot be read.
    """
    indices = range(len(split))[start:stop]
    batch = adapter.prepare(**split.items(indices, readable_fields(adapter, split)))
    if labels and "labels" in split.fields:
        targets = np.asarray([split.fields["labels"][index] for index in indices])
        batch["labels"] = torch.from_numpy(targets).to(adapter.device)
    return batch


def prepared(
    adapter: Adapter,
    split: Split,
    batch_size: int,
    *,
    order: Iterable[int] | None = None,
    fields: Sequence[str] | None = None,
    ahead: int | None = None,
    workers: int | None = None,
) -> Prepared:
    """The items of `split` as batches for `adapter.outputs`, the last one as short as it comes.

    Args:
        batch_size: items in a batch.
        order: indices into the split, of a sampler; as the items stand by default.
        fields: which of the split's are prepared; by default those that the adapter reads and the split has.
        ahead: batches kept ready beside the one in use, 0 or more: what memory they take. By default as many as
            workers.
        workers: threads that prepare, each a whole batch; one where there are texts. By default half of the threads
            that torch computes with, 2 to 8.

    Raises:
        UserError: a number too small, or a field that the split lacks.
    """
    workers = _usual_workers() if workers is None else workers
    ahead = workers if ahead is None else ahead
    problems = Problems("loading")
    for name, value, least in (("batch_size", batch_size, 1), ("ahead", ahead, 0), ("workers", workers, 1)):
        problems.whole(name, value, least)
    names = readable_fields(adapter, split) if fields is None else tuple(fields)
    for name in names:
        problems.choice(f"split '{split.name}' has no field", name, split.fields)
    problems.done()
    taken = np.arange(len(split)) if order is None else np.fromiter(order, np.int64)
    batches = [taken[start : start + batch_size] for start in range(0, len(taken), batch_size)]
    return Prepared(adapter, split, batches, names, ahead, workers)
