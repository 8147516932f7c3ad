"""job=serve: a real server and a real client of OpenAI's, and what cannot be served."""

import re
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

import rcc

TINY = Path(rcc.__file__).parent / "assets/clip_tiny"
SERVE = ("job=serve", "threads=1")


def test_openais_client_is_answered_and_a_signal_ends_the_service_in_peace(fresh_rcc_run):
    openai = pytest.importorskip("openai")
    pytest.importorskip("uvicorn")
    process = fresh_rcc_run(*SERVE, f"serve.embed={TINY}", "serve.port=0")
    try:
        said = ""
        while "until Ctrl-C" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        url = re.search(r"base_url (\S+)", said)[1]
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        texts = ["a photo of the digit three", "zero"]
        answer = client.embeddings.create(model=str(TINY), input=texts)
        wanted = rcc.CLIPEngine(TINY).encode_text(texts)
        np.testing.assert_allclose([each.embedding for each in answer.data], wanted, atol=1e-5)
        assert [model.id for model in client.models.list()] == [str(TINY)]
        with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length"):
            client.embeddings.create(model=str(TINY), input=[[1, 2, 3]])
        with pytest.raises(openai.NotFoundError, match="is not served"):
            client.embeddings.create(model="other", input="a")
    finally:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert "Stopped; every request that was taken was answered." in out
    assert "Traceback" not in out


def test_a_port_in_use_is_told_before_anything_is_loaded(rcc_run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = rcc_run(*SERVE, f"serve.embed={TINY}", f"serve.port={port}")
    assert code == 2
    assert f"cannot listen at 127.0.0.1:{port}" in err
    assert "dimensions" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "job=serve needs a model: serve.embed=<artifact>"),
        (("serve.embed=none",), "none holds no model: there is nothing"),
        ((f"serve.embed=[{TINY},{TINY}]",), "is named twice"),
        (("serve.embed=[3]",), "3 is no path"),
        ((f"serve.embed={TINY}", "serve.port=70000"), "serve.port is 70000; it must be a whole number from 0 to 65535"),
        ((f"serve.embed={TINY}", "serve.queue=0"), "serve.queue is 0"),
        ((f"serve.embed={TINY}", "serve.deadline=0"), "serve.deadline is 0"),
        ((f"serve.embed={TINY}", "serve.search=none"), "none is no store"),
        ((f"serve.embed={TINY}", "serve.search=[none,3]"), "3 is no path"),
        ((f"serve.embed={TINY}", "serve.host=256.1.1.1"), "cannot listen at 256.1.1.1:8000"),
        ((f"serve.embed={TINY}", "dry_run=false"), "job=serve writes nothing"),
    ],
)
def test_what_cannot_be_served_is_refused(rcc_run, words, message):
    code, _, err = rcc_run(*SERVE, *words)
    assert code == 2
    assert message in err


def test_a_missing_extra_names_itself(rcc_run, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    monkeypatch.delitem(sys.modules, "rcc.serving.app", raising=False)
    code, _, err = rcc_run(*SERVE, f"serve.embed={TINY}", "serve.port=0")
    assert code == 2
    assert "pip install 'rcc[serve]'" in err
