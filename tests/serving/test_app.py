"""The routes: what they answer, and every wrong request in the shape of OpenAI's errors."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toys.files import sound

import rcc
from rcc.errors import UserError

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from starlette.testclient import TestClient

from rcc.serving.app import Service
from rcc.serving.models import ServedModel
from rcc.store import EmbeddingStore


@pytest.fixture(scope="module")
def engine() -> rcc.CLIPEngine:
    return rcc.CLIPEngine(Path(rcc.__file__).parent / "assets/clip_tiny")


@pytest.fixture(scope="module")
def images() -> Any:
    return [np.asarray(image) for image in rcc.load_data("digits").test.images[:12]]


@pytest.fixture(scope="module")
def client(engine: rcc.CLIPEngine, images: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("served")
    rcc.save(rcc.load_model("clip_tiny"), folder / "artifact", dtype="float32")
    models = {"small": ServedModel("small", folder / "artifact", "cpu", 8, 64)}
    store = EmbeddingStore(folder / "store", model=models["small"].checksum)
    fields = [{"place": place, "digest": "0"} for place in range(12)]
    store.add([f"item {place}" for place in range(12)], engine.encode_image(images), fields)
    service = Service(models, [store], body=200_000)
    with TestClient(service.application(), raise_server_exceptions=False) as made:
        yield made


def data_uri(array: Any) -> str:
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def test_embeddings_are_those_of_the_engine(client: TestClient, engine: rcc.CLIPEngine, images: Any) -> None:
    texts = ["a photo of the digit three", "zero"]
    told = client.post("/v1/embeddings", json={"input": texts, "model": "small"}).json()
    assert (told["object"], told["model"]) == ("list", "small")
    assert [each["index"] for each in told["data"]] == [0, 1]
    np.testing.assert_allclose([each["embedding"] for each in told["data"]], engine.encode_text(texts), atol=1e-5)
    counted = sum(int(engine.model.prepare(texts=[text])["attention_mask"].sum()) for text in texts)
    assert told["usage"] == {"prompt_tokens": counted, "total_tokens": counted}
    body = {"input": [data_uri(image) for image in images[:3]], "modality": "image", "encoding_format": "base64"}
    told = client.post("/v1/embeddings", json=body).json()
    coded = [np.frombuffer(base64.b64decode(each["embedding"]), "<f4") for each in told["data"]]
    np.testing.assert_allclose(coded, engine.encode_image(images[:3]), atol=1e-5)


def test_the_form_of_text_embeddings_inference_is_a_list(client: TestClient, engine: rcc.CLIPEngine) -> None:
    told = client.post("/embed", json={"inputs": "zero"}).json()
    np.testing.assert_allclose(told, engine.encode_text("zero"), atol=1e-5)


def test_the_store_is_searched_by_texts_and_images(client: TestClient, engine: rcc.CLIPEngine, images: Any) -> None:
    told = client.post("/search", json={"image": data_uri(images[7]), "top_k": 3}).json()
    assert told["model"] == "small"
    assert (told["matches"][0]["id"], told["matches"][0]["fields"]["place"]) == ("item 7", 7)
    assert told["matches"][0]["score"] == pytest.approx(1, abs=1e-5)
    told = client.post("/search", json={"query": "a photo of the digit three", "top_k": 12, "filter": "place<5"}).json()
    cosines = (engine.encode_text("a photo of the digit three") @ engine.encode_image(images[:5]).T)[0]
    assert [match["fields"]["place"] for match in told["matches"]] == np.argsort(-cosines).tolist()


def test_what_is_served_says_what_it_is_and_lost(client: TestClient) -> None:
    (card,) = client.get("/v1/models").json()["data"]
    assert (card["id"], card["dimensions"], card["modalities"]) == ("small", 128, ["text", "image"])
    assert (card["compressed"], card["rows"]) == (True, 12)
    assert card["bytes"] > 1e6
    told = client.get("/health").json()
    assert told == {"status": "ok", "waiting": {"small": 0}, "rows": {"small": 12}, "version": rcc.__version__}
    text = client.get("/metrics").text
    assert 'rcc_requests_total{route="/v1/models",status="200"}' in text
    assert 'rcc_items{model="small"}' in text
    assert client.get("/openapi.json").json()["openapi"] == "3.1.0"
    page = client.get("/").text
    assert "<title>rcc search</title>" in page
    assert "http" not in page.replace("http-equiv", ""), "nothing is loaded from elsewhere"


IMAGE = "data:image/png;base64,"


@pytest.mark.parametrize(
    ("body", "status", "message", "param"),
    [
        ({"model": "small"}, 400, "input is empty", "input"),
        ({"input": []}, 400, "input is empty", "input"),
        ({"input": ""}, 400, "is an empty text", "input"),
        ({"input": [[1, 2]]}, 400, "check_embedding_ctx_length=False", "input"),
        ({"input": [3]}, 400, "token ids", "input"),
        ({"input": ["a", None]}, 400, "input[1] is None", "input"),
        ({"input": ["a"] * 3000}, 400, "has 3000 items and at most 2048", "input"),
        ({"input": "a", "model": "other"}, 404, "model 'other' is not served; there are small", "model"),
        ({"input": "a", "modality": "video"}, 400, "modality is 'video'", "modality"),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format", "encoding_format"),
        ({"input": "a", "dimensions": 64}, 400, "gives 128 dimensions", "dimensions"),
        ({"input": "http://x/a.png", "modality": "image"}, 400, "nothing is fetched", "input"),
        ({"input": IMAGE + "???", "modality": "image"}, 400, "is not base64", "input"),
        ({"input": IMAGE + "AAAA", "modality": "image"}, 400, "cannot be decoded", "input"),
        ({"input": "data:image/png,abc", "modality": "image"}, 400, "coded in base64", "input"),
        ([], 400, "it must be an object", None),
        ({"input": ["a"] * 100}, 429, "too many requests wait", None),
    ],
)
def test_a_wrong_request_is_told_as_openai_tells(
    client: TestClient, body: Any, status: int, message: str, param: str | None
) -> None:
    answer = client.post("/v1/embeddings", json=body)
    error = answer.json()["error"]
    assert answer.status_code == status, error
    assert message in error["message"]
    assert (error["param"], set(error)) == (param, {"message", "type", "param", "code"})
    assert ("retry-after" in answer.headers) == (status == 429)


@pytest.mark.parametrize(
    ("route", "body", "status", "message"),
    [
        ("/search", {"query": "a", "top_k": 0}, 400, "top_k is 0"),
        ("/search", {"query": "a", "filter": "no=1"}, 400, "unknown field 'no'"),
        ("/search", {"query": "a", "filter": 3}, 400, "filter is no text"),
        ("/search", {"query": ["a"]}, 400, "one is looked for at a time"),
        ("/search", {}, 400, "query is empty"),
        ("/search", {"query": "a", "model": "other"}, 404, "model 'other' searches no store; those that do are small"),
        ("/embed", {}, 400, "inputs is empty"),
        ("/none", {}, 404, "no such route"),
        ("/health", {}, 405, "takes another method"),
    ],
)
def test_other_routes_refuse_in_the_same_shape(
    client: TestClient, route: str, body: Any, status: int, message: str
) -> None:
    answer = client.post(route, json=body)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "status"), [(b"{", 400), (b"\xff", 400), (b"[" * 9999, 400), (b"a" * 300_000, 413)]
)
def test_a_body_that_is_no_json_or_too_long_is_refused(client: TestClient, content: bytes, status: int) -> None:
    assert client.post("/v1/embeddings", content=content).status_code == status


def test_a_store_of_other_weights_and_a_model_that_embeds_nothing_are_refused(
    checkpoint_of: Any, tmp_path: Path
) -> None:
    store = EmbeddingStore(tmp_path / "store", model="0" * 64)
    store.add("a", np.ones(4))
    model = ServedModel("clip", checkpoint_of("clip"), "cpu", 8, 8)
    with pytest.raises(UserError, match=r"was made by none of the models that are served \(clip\)"):
        Service({"clip": model}, [store])
    own = [EmbeddingStore(tmp_path / name, model=model.checksum) for name in ("one", "two")]
    for each in own:
        each.add("a", np.ones(16))
    with pytest.raises(UserError, match=r"one and .*two were both made by clip: serve one of them"):
        Service({"clip": model}, own)
    model.batcher.close()
    with pytest.raises(UserError, match="gives no embeddings of texts, images or sounds"):
        ServedModel("vit", checkpoint_of("vit"), "cpu", 8, 8)


def test_sounds_are_embedded_and_looked_for_as_data_uris(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    served = ServedModel("speech", checkpoint_of("whisper"), "cpu", 8, 64)
    assert (served.modalities, served.dimensions) == (("audio",), 32)
    encoder = rcc.AudioEncoder(checkpoint_of("whisper"))
    vectors = encoder.encode([sound(seed, 2 * seed) for seed in range(4)])
    store = EmbeddingStore(tmp_path / "store", kind="audio", model=served.checksum)
    store.add([f"sound {place}" for place in range(4)], vectors)
    with TestClient(Service({"speech": served}, [store]).application(), raise_server_exceptions=False) as client:
        coded = ["data:audio/wav;base64," + base64.b64encode(sound(seed, 2 * seed)).decode() for seed in range(4)]
        told = client.post("/v1/embeddings", json={"input": coded, "modality": "audio"}).json()
        found = np.array([each["embedding"] for each in told["data"]], np.float32)
        np.testing.assert_allclose(found, vectors, atol=1e-6)
        assert told["usage"]["total_tokens"] == 0
        matches = client.post("/search", json={"audio": coded[2], "top_k": 1}).json()["matches"]
        assert matches[0]["id"] == "sound 2"
        short = "data:audio/wav;base64," + base64.b64encode(sound(1, seconds=0.01)).decode()
        refused = client.post("/v1/embeddings", json={"input": short, "modality": "audio"})
        assert refused.status_code == 400
        assert "lasts 10 ms" in refused.json()["error"]["message"]
        texts = client.post("/search", json={"query": "a voice"})
        assert (texts.status_code, "not texts" in texts.json()["error"]["message"]) == (400, True)
