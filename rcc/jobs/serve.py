"""job=serve: answer embeddings and searches over HTTP, until a signal ends it."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcc.engine.opening import check_there
from rcc.errors import Problems, UserError
from rcc.jobs.job import Job
from rcc.limits import expanded
from rcc.reporting.drawing import Terminal, say
from rcc.reporting.formats import bytes_text
from rcc.store import EmbeddingStore

if TYPE_CHECKING:
    from rcc.serving.app import Service

EXTRA = "job=serve needs starlette, uvicorn and prometheus-client, which are not installed: pip install 'rcc[serve]'."
DRAINING = 30
"""Seconds that answers under way have once a signal came."""


class Serve(Job):
    """Loads what `serve.embed=` names, opens the store, and serves both until SIGINT or SIGTERM; what was taken by then
    is answered."""

    paths: dict[str, Path]
    stores: Sequence[EmbeddingStore] = ()

    def read(self, found: Problems) -> None:
        super().read(found)
        options = self.settings["serve"]
        found.whole("serve.port", options["port"], 0, 65_535)
        for name in ("batch_size", "queue", "body_bytes"):
            found.whole(f"serve.{name}", options[name], 1)
        found.within("serve.deadline", options["deadline"], "(0, 3600]")
        found.check(
            isinstance(options["host"], str) and bool(options["host"]), "serve.host is the address to listen at."
        )
        found.check(
            self.settings["dry_run"] is True, "dry_run=false has no effect: job=serve writes nothing. Leave it out."
        )
        with found.collecting():
            self.paths = _named(options["embed"])
        with found.collecting():
            self.stores = _stores(options["search"])

    def run(self) -> None:
        """Serve."""
        try:
            from rcc.serving.app import Service
            from rcc.serving.models import ServedModel
        except ModuleNotFoundError as error:
            raise UserError(EXTRA) from error
        terminal, options = Terminal(highlight=False), self.settings["serve"]
        self.set_threads()
        listening = _listening(options["host"], options["port"])
        with listening:
            models = {}
            for name, path in self.paths.items():
                model = ServedModel(name, path, str(self.settings["device"]), options["batch_size"], options["queue"])
                models[name] = model
                kinds = " and ".join(model.modalities)
                say(terminal, f"{name}: {kinds} in {model.dimensions} dimensions, {bytes_text(model.nbytes)}.")
            service = Service(models, self.stores, options["deadline"], options["body_bytes"])
            for name, store in service.stores.items():
                say(terminal, f"{store.path}: {len(store):,} rows, searched by {name}.")
            host, port = listening.getsockname()[:2]
            shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
            say(
                terminal,
                f"Serving at http://{shown}:{port}/ until Ctrl-C. OpenAI's clients: base_url http://{shown}:{port}/v1",
            )
            _serve(service, listening)
        say(terminal, "Stopped; every request that was taken was answered.")


def _named(given: Any) -> dict[str, Path]:
    """The models to serve by the names that clients give: the path as it was typed.

    Raises:
        UserError: none is named, one twice, or a path holds no model.
    """
    texts = given if isinstance(given, list) else [] if given is None else [given]
    problems = Problems("serve.embed")
    problems.check(bool(texts), "job=serve needs a model: serve.embed=<artifact>, or [<artifact>,<checkpoint>].")
    found: dict[str, Path] = {}
    for text in texts:
        if not problems.check(isinstance(text, str), f"{text} is no path."):
            continue
        problems.check(text not in found, f"{text} is named twice.")
        with problems.collecting():
            found[text] = expanded("serve.embed", text)
            check_there(found[text])
    problems.done()
    return found


def _stores(given: Any) -> list[EmbeddingStore]:
    """The stores to search.

    Raises:
        UserError: a path that is no store, or one that is named twice.
    """
    texts = given if isinstance(given, list) else [] if given is None else [given]
    problems = Problems("serve.search")
    problems.check(len(set(map(str, texts))) == len(texts), "a store is named twice.")
    found = []
    for text in texts:
        if not problems.check(isinstance(text, str), f"{text} is no path."):
            continue
        with problems.collecting():
            store = EmbeddingStore(expanded("serve.search", text))
            _ = store.manifest  # one that is not there is told before a model is loaded
            found.append(store)
    problems.done()
    return found


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens, before any model is loaded.

    Raises:
        UserError: the address is in use or not this machine's.
    """
    try:
        return socket.create_server((host, port), reuse_port=False)
    except OSError as error:
        raise UserError(
            f"cannot listen at {host}:{port} ({error.strerror or error}): take another serve.port, or 0 for a free one."
        ) from error


def _serve(service: Service, listening: socket.socket) -> None:
    """Serve until a signal comes. It ends the service and not the program: being stopped is how a service ends."""
    import uvicorn

    config = uvicorn.Config(
        service.application(), log_level="warning", access_log=False, timeout_graceful_shutdown=DRAINING
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: setattr(server, "should_exit", True)) for number in signals]
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
