"""Batches prepared ahead in threads, so that reading and decoding images hides behind the model's compute."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from rcc.data.splits import Split
from rcc.errors import Problems
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter

FEWEST, MOST = 2, 8
"""Threads that prepare batches, and batches that they may be ahead: on a small machine, and on any."""


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
        texts: bool,
        ahead: int,
        workers: int,
    ) -> None:
        self.adapter, self.split, self.batches = adapter, split, batches
        self.texts, self.ahead = texts, ahead
        # A tokenizer holds its padding and truncation settings, so two threads must not share one.
        self.workers = 1 if texts else workers
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
        pictures = [self.split.images[int(index)] for index in indices]
        texts = [self.split.texts[index] for index in indices] if self.texts else None
        return self.adapter.prepare(pictures, texts)


def prepared(
    adapter: Adapter,
    split: Split,
    batch_size: int,
    *,
    order: Iterable[int] | None = None,
    texts: bool = False,
    ahead: int | None = None,
    workers: int | None = None,
) -> Prepared:
    """The images of `split` as batches for `adapter.outputs`, the last one as short as it comes.

    Args:
        batch_size: images in a batch.
        order: indices into the split, of a sampler; as the items stand by default.
        texts: prepare the split's texts with the images.
        ahead: batches kept ready beside the one in use, 0 or more: what memory they take. By default as many as
            workers.
        workers: threads that prepare, each a whole batch; one where there are texts. By default half of the threads
            that torch computes with, 2 to 8.

    Raises:
        UserError: a number too small, or texts of a split that has none.
    """
    workers = min(MOST, max(FEWEST, torch.get_num_threads() // 2)) if workers is None else workers
    ahead = workers if ahead is None else ahead
    problems = Problems("loading")
    for name, value, least in (("batch_size", batch_size, 1), ("ahead", ahead, 0), ("workers", workers, 1)):
        problems.check(value >= least, f"{name} is {value}; it must be at least {least}.")
    problems.check(
        not texts or len(split.texts) == len(split), f"split '{split.name}' has no texts to go with its images."
    )
    problems.done()
    taken = np.arange(len(split)) if order is None else np.fromiter(order, np.int64)
    batches = [taken[start : start + batch_size] for start in range(0, len(taken), batch_size)]
    return Prepared(adapter, split, batches, texts, ahead, workers)
