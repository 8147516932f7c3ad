"""Build the application: routes, their answers, and errors in one shape."""

from __future__ import annotations

import asyncio
import base64
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial, wraps
from importlib.resources import files
from typing import Any

import numpy as np
from anyio import to_thread
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from rcc import __version__
from rcc.errors import UserError, is_whole
from rcc.models.abilities import prompt_of
from rcc.serving.batcher import DeadlineError, QueueFullError
from rcc.serving.errors import ApiError
from rcc.serving.models import PROMPTED, ServedModel
from rcc.serving.requests import AUDIO, CALLED, IMAGE, TEXT, embedding_request, items_of, prompt_name, read_json
from rcc.store import EmbeddingStore

Answer = Callable[[Request], Awaitable[Response]]
BODY = 32 * 2**20
"""Bytes of a request that are read."""
MOST_MATCHES = 1000
RETRY = 1


class Service:
    """Models by name, and stores that they made.

    Args:
        stores: each made by one of the models, and no two by the same.
        deadline: seconds after which a request that was not begun is given up.
        body: bytes of a request that are read.

    Raises:
        UserError: a store was made by none of the models, or two by one of them.
    """

    def __init__(
        self,
        models: Mapping[str, ServedModel],
        stores: Sequence[EmbeddingStore] = (),
        deadline: float = 30.0,
        body: int = BODY,
    ) -> None:
        self.models, self.deadline, self.body = models, deadline, body
        self.stores: dict[str, EmbeddingStore] = {}
        """What is searched by a model, by its name."""
        for store in stores:
            made = [name for name, model in models.items() if model.checksum == store.manifest.model]
            if not made:
                raise UserError(
                    f"{store.path} was made by none of the models that are served ({', '.join(models)}): serve the one"
                    " that made it, or index the data with one of these."
                )
            if made[0] in self.stores:
                raise UserError(
                    f"{self.stores[made[0]].path} and {store.path} were both made by {made[0]}: serve one of them."
                )
            self.stores[made[0]] = store
        self.registry = CollectorRegistry()
        self.requests = Counter("rcc_requests", "Requests.", ["route", "status"], registry=self.registry)
        self.seconds = Histogram("rcc_request_seconds", "Time to an answer.", ["route"], registry=self.registry)
        numbers: dict[str, Callable[[ServedModel], float]] = {
            "rcc_items": lambda model: model.batcher.items,
            "rcc_batches": lambda model: model.batcher.batches,
            "rcc_waiting": lambda model: len(model.batcher),
        }
        for name, number in numbers.items():
            gauge = Gauge(name, f"{name[4:]} of a model".capitalize(), ["model"], registry=self.registry)
            for model in models.values():
                gauge.labels(model.name).set_function(partial(number, model))

    def application(self) -> Starlette:
        """The application, which closes the batchers when it ends: what was taken is answered."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> Any:
            yield
            for model in self.models.values():
                await to_thread.run_sync(model.batcher.close)

        routes = [
            Route("/v1/embeddings", self._told(self.embeddings), methods=["POST"]),
            Route("/v1/models", self._told(self.list_models)),
            Route("/embed", self._told(self.embed), methods=["POST"]),
            Route("/search", self._told(self.search), methods=["POST"]),
            Route("/health", self._told(self.health)),
            Route("/metrics", self._told(self.metrics)),
            Route("/openapi.json", self._told(self.openapi)),
            Route("/", self._told(self.page)),
        ]
        missing = {404: _as_error(404, "no such route"), 405: _as_error(405, "this route takes another method")}
        return Starlette(routes=routes, lifespan=lifespan, exception_handlers=missing)

    # Routes.

    async def embeddings(self, request: Request) -> Response:
        """OpenAI's embeddings, with `modality` for images and sounds."""
        asked = await to_thread.run_sync(embedding_request, read_json(await self._body(request)), self.models)
        found = await self._embedded(self.models[asked.model], asked.modality, asked.items, asked.prompt)
        data = [
            {"object": "embedding", "index": place, "embedding": _coded(each) if asked.base64 else each.tolist()}
            for place, (each, _) in enumerate(found)
        ]
        tokens = sum(count for _, count in found)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": data, "model": asked.model, "usage": usage})

    async def embed(self, request: Request) -> Response:
        """The embeddings of text-embeddings-inference, by the first model."""
        content = read_json(await self._body(request))
        model = next(iter(self.models.values()))
        if TEXT not in model.modalities:
            raise ApiError(400, f"model '{model.name}' embeds no texts.", "inputs")
        items = items_of(content.get("inputs"), TEXT, "inputs")
        found = await self._embedded(model, TEXT, items, prompt_name(content, model))
        return JSONResponse([each.tolist() for each, _ in found])

    async def search(self, request: Request) -> Response:
        """The rows of a model's store nearest to a text, an image or a sound."""
        if not self.stores:
            raise ApiError(404, "no store is served: start with serve.search=<store>.")
        content = read_json(await self._body(request))
        name = content.get("model", next(iter(self.stores)))
        if not isinstance(name, str) or name not in self.stores:
            searching = ", ".join(self.stores)
            raise ApiError(404, f"model {name!a:.80} searches no store; those that do are {searching}.", "model")
        top_k, where = content.get("top_k", 10), content.get("filter") or ""
        if not is_whole(top_k) or not 1 <= top_k <= MOST_MATCHES:
            raise ApiError(400, f"top_k is {top_k!a:.40}; it must be a whole number from 1 to {MOST_MATCHES}.", "top_k")
        if not isinstance(where, str):
            raise ApiError(400, "filter is no text.", "filter")
        modality = next((each for each in (IMAGE, AUDIO) if content.get(each) is not None), TEXT)
        field = "query" if modality == TEXT else modality
        (item,) = await to_thread.run_sync(_single, content.get(field), modality, field)
        prompt = prompt_of(self.models[name].model, "query") if modality == TEXT else None
        ((embedding, _),) = await self._embedded(self.models[name], modality, [item], prompt)
        try:
            (found,) = await to_thread.run_sync(self.stores[name].search, embedding, top_k, where)
        except UserError as error:
            raise ApiError(400, str(error), "filter") from None
        return JSONResponse({"model": name, "matches": [asdict(match) for match in found]})

    async def list_models(self, request: Request) -> Response:
        rows = {name: len(store) for name, store in self.stores.items()}
        data = [{**model.card, "rows": rows.get(name)} for name, model in self.models.items()]
        return JSONResponse({"object": "list", "data": data})

    async def health(self, request: Request) -> Response:
        waiting = {name: len(model.batcher) for name, model in self.models.items()}
        rows = {name: len(store) for name, store in self.stores.items()}
        return JSONResponse({"status": "ok", "waiting": waiting, "rows": rows, "version": __version__})

    async def metrics(self, request: Request) -> Response:
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, request: Request) -> Response:
        return Response(_shipped("openapi.json"), media_type="application/json")

    async def page(self, request: Request) -> Response:
        return HTMLResponse(_shipped("page.html"))

    # What routes share.

    async def _embedded(
        self, model: ServedModel, modality: str, items: list[Any], prompt: str | None = None
    ) -> list[tuple[Any, int]]:
        if modality not in model.modalities:
            raise ApiError(
                400, f"model '{model.name}' embeds {' and '.join(model.modalities)}, not {CALLED[modality]}."
            )
        try:
            kind = modality if prompt is None else f"{modality}{PROMPTED}{prompt}"
            futures = model.batcher.submit(kind, items, self.deadline)
        except QueueFullError:
            raise ApiError(429, "too many requests wait; come again.", retry=RETRY) from None
        try:
            return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))
        except DeadlineError:
            raise ApiError(503, f"not begun within {self.deadline:g} s; come again.", retry=RETRY) from None
        except UserError as error:
            raise ApiError(400, str(error), "input") from None

    async def _body(self, request: Request) -> bytes:
        """The body, read no further than is allowed."""
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > self.body:
                raise ApiError(413, f"the body has more than {self.body} bytes.")
        return bytes(content)

    def _told(self, answer: Answer) -> Answer:
        """The route with its errors in OpenAI's shape, counted and timed."""

        @wraps(answer)
        async def told(request: Request) -> Response:
            started, route = time.perf_counter(), request.url.path
            try:
                response = await answer(request)
            except ApiError as error:
                headers = {} if error.retry is None else {"Retry-After": str(error.retry)}
                response = JSONResponse(error.content, error.status, headers)
            except ClientDisconnect:
                response = Response(status_code=499)
            except Exception:
                response = JSONResponse(ApiError(500, "this error was not foreseen; the log has it.").content, 500)
                traceback.print_exc()
            self.requests.labels(route, response.status_code).inc()
            self.seconds.labels(route).observe(time.perf_counter() - started)
            return response

        return told


def _single(given: Any, modality: str, field: str) -> list[Any]:
    if isinstance(given, list):
        raise ApiError(400, f"{field} is a list; one is looked for at a time.", field)
    return items_of(given, modality, field)


def _coded(embedding: Any) -> str:
    return base64.b64encode(np.asarray(embedding, dtype="<f4").tobytes()).decode()


def _shipped(name: str) -> str:
    return (files("rcc.serving") / name).read_text(encoding="utf-8")


def _as_error(status: int, message: str) -> Callable[[Request, Exception], Response]:
    return lambda request, _: JSONResponse(ApiError(status, f"{request.url.path}: {message}.").content, status)
