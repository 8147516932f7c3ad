"""A hub name that cannot be loaded is found out by a short probe, and the error says what to do."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from rcc.errors import UserError
from rcc.models.transformers import hub
from rcc.models.transformers.clip import CLIPWrapper

NAME = "openai/clip-vit-base-patch32"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> pytest.MonkeyPatch:
    """A process that may ask the hub, with an empty cache and no proxy."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts a connection and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def answering(status: int) -> HTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_offline_by_choice_is_said_and_what_to_do_about_it() -> None:
    with pytest.raises(UserError) as error:
        CLIPWrapper.load(NAME)
    message = str(error.value)
    assert f"model '{NAME}' could not be loaded" in message
    assert "HF_HUB_OFFLINE is set" in message
    assert "model.path=<directory>" in message
    assert "rcc-run model=clip_tiny" in message


def test_an_endpoint_that_refuses_the_connection_is_named(online: pytest.MonkeyPatch, closed_port: int) -> None:
    online.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(UserError, match=f"127.0.0.1:{closed_port} could not be reached"):
        CLIPWrapper.load(NAME)
    with pytest.raises(UserError, match="could not be reached"):
        CLIPWrapper.skeleton(NAME)  # type: ignore[arg-type]


def test_an_endpoint_that_never_answers_is_given_up(online: pytest.MonkeyPatch, silent_port: int) -> None:
    online.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent_port}")
    assert "could not be reached (timed out)" in hub.why_unreachable(seconds=0.2)


def test_a_name_look_up_that_hangs_is_given_up(online: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    online.setattr(hub.urllib.request, "urlopen", lambda *arguments, **options: released.wait(30) and io.BytesIO())
    assert "did not answer within" in hub.why_unreachable(seconds=-0.9)
    released.set()


@pytest.mark.parametrize(("status", "reached"), [(200, True), (404, True), (403, False), (502, False)])
def test_a_gateway_that_cannot_pass_the_question_on_is_not_the_hub(
    online: pytest.MonkeyPatch, status: int, reached: bool
) -> None:
    server = answering(status)
    online.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    assert (hub.why_unreachable() == "") is reached
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("files", "for_a_plan", "for_a_run"),
    [((), False, False), (("config.json",), True, False), (("config.json", "model.safetensors"), True, True)],
)
def test_a_cached_config_is_enough_for_a_plan_and_not_for_a_run(
    online: pytest.MonkeyPatch, tmp_path: Path, files: tuple[str, ...], for_a_plan: bool, for_a_run: bool
) -> None:
    snapshot = tmp_path / "models--some--clip" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--some--clip" / "refs").mkdir()
    (tmp_path / "models--some--clip" / "refs" / "main").write_text("abc")
    for name in files:
        (snapshot / name).touch()
    online.setattr(hub, "try_to_load_from_cache", partial(hub.try_to_load_from_cache, cache_dir=tmp_path))
    assert hub.cached("some/clip", weights=False) is for_a_plan
    assert hub.cached("some/clip") is for_a_run


def test_the_longest_probe_fits_into_ten_seconds() -> None:
    assert hub.PROBE_SECONDS + 1 < 5
