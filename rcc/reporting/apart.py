"""Call an observer in a thread of its own, and wait for it only so long: a server that hangs stops no run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

SECONDS = 60.0
"""How long an event may take; W&B gets half of it to connect."""

Call = tuple["Future[None]", Callable[..., None], tuple[object, ...]]


class Apart:
    """A thread that calls what it is given, one after the other. It ends with the process, whatever it waits for."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Call] = SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def call(self, function: Callable[..., None], *details: object) -> None:
        """Call `function` and wait until it returns. Raises what it raises.

        Raises:
            TimeoutError: it did not return in time; the thread is left to it.
        """
        done: Future[None] = Future()
        self._calls.put((done, function, details))
        try:
            done.result(SECONDS)
        except TimeoutError:
            if done.done():  # it raised one itself
                raise
            raise TimeoutError(f"it did not come back within {SECONDS:g} s") from None
        except SystemExit as error:
            raise RuntimeError(f"it called sys.exit({error.code!r})") from error

    def _serve(self) -> None:
        while True:
            done, function, details = self._calls.get()
            try:
                function(*details)
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)
