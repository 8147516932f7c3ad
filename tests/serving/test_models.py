"""A served encoder of sentences: its card, its prompts, and vectors as the engine makes them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from toys.checkpoints import save_sentences

import rcc

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from starlette.testclient import TestClient

from rcc.serving.app import Service
from rcc.serving.models import ServedModel
from rcc.store import EmbeddingStore

PROMPTS = {"query": "the digit ", "passage": "photo of "}
TEXTS = ["a red dog", "six", "two cats"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> rcc.TextEncoder:
    folder = tmp_path_factory.mktemp("served")
    save_sentences(folder / "dense", prompts=PROMPTS)
    rcc.save(rcc.load_model("auto", path=folder / "dense", device="cpu"), folder / "artifact", dtype="float32")
    return rcc.TextEncoder(folder / "artifact", device="cpu")


@pytest.fixture(scope="module")
def client(encoder: rcc.TextEncoder) -> Iterator[TestClient]:
    served = ServedModel("minilm", encoder.path, "cpu", 8, 64)
    store = EmbeddingStore(Path(encoder.path).parent / "store", kind="text", model=served.checksum)
    store.add(TEXTS, encoder.encode(TEXTS, "passage"))
    with TestClient(Service({"minilm": served}, [store]).application()) as made:
        yield made


def test_texts_are_embedded_as_by_the_engine_with_the_prompt_that_is_named(
    client: TestClient, encoder: rcc.TextEncoder
) -> None:
    for prompt in (None, "query"):
        body = {"input": TEXTS, "encoding_format": "base64", **({} if prompt is None else {"prompt_name": prompt})}
        told = client.post("/v1/embeddings", json=body).json()
        coded = [np.frombuffer(base64.b64decode(each["embedding"]), "<f4") for each in told["data"]]
        np.testing.assert_allclose(coded, encoder.encode(TEXTS, prompt), atol=1e-5)
        inputs = {"inputs": TEXTS, **({} if prompt is None else {"prompt_name": prompt})}
        np.testing.assert_allclose(client.post("/embed", json=inputs).json(), encoder.encode(TEXTS, prompt), atol=1e-5)


def test_a_search_puts_the_prompt_of_queries_before_the_query(client: TestClient, encoder: rcc.TextEncoder) -> None:
    told = client.post("/search", json={"query": "six", "top_k": 3}).json()
    cosines = (encoder.encode("six", "query") @ encoder.encode(TEXTS, "passage").T)[0]
    assert [match["id"] for match in told["matches"]] == [TEXTS[place] for place in np.argsort(-cosines)]
    assert [match["score"] for match in told["matches"]] == pytest.approx(sorted(cosines, reverse=True), abs=1e-5)


def test_the_card_lists_prompts_and_an_unknown_one_is_refused(client: TestClient) -> None:
    (card,) = client.get("/v1/models").json()["data"]
    assert (card["modalities"], card["dimensions"], card["prompts"]) == (["text"], 32, ["passage", "query"])
    for field, route in (("input", "/v1/embeddings"), ("inputs", "/embed")):
        answer = client.post(route, json={field: "six", "prompt_name": "quory"})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == "prompt_name"
        assert "the prompts of 'minilm' are: passage, query" in error["message"]
