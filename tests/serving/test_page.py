"""The page in headless Chromium, where there is one: it searches by two models, by the keyboard, at any width."""

from __future__ import annotations

import html
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rcc

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")

TRY = """
<script>
addEventListener("error", event => told.errors.push(event.message));
const told = {errors: []}, wait = () => new Promise(done => setTimeout(done, 30));
const until = async holds => { for (let turn = 0; turn < 300 && !holds(); turn++) await wait(); };
const ids = each => [...each.querySelectorAll("li b")].map(item => item.textContent);
const lists = () => [...document.querySelectorAll("#columns section")].map(ids);
(async () => {
  const answer = document.createElement("pre");
  try {
    await until(() => document.querySelectorAll("#columns section").length);
    told.focus = document.activeElement.id;                              // where typing goes without any action
    told.cards = [...document.querySelectorAll("#columns section")].map(each => each.querySelector("h2").textContent);
    told.lost = document.querySelector("#columns").textContent.includes("accuracy 0.9000, dense 0.9500");
    document.activeElement.value = "a photo of the digit three";
    document.getElementById("ask").requestSubmit();                      // Enter
    await until(() => document.querySelector("li"));
    told.both = lists();
    told.said = document.getElementById("said").textContent;
    told.alone = document.querySelectorAll(".alone:not(:empty)").length;
    const second = document.querySelectorAll("#which input")[2];
    second.focus(); second.click();                                      // Space
    await until(() => lists().length === 1);
    told.one = [document.querySelector("#columns h2").textContent, lists()[0].length];
    const bytes = await (await fetch(PICTURE)).blob(), file = new File([bytes], "seven.png", {type: "image/png"});
    const carried = new DataTransfer(); carried.items.add(file);
    const drop = new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: carried});
    document.getElementById("drop").dispatchEvent(drop);
    await until(() => document.querySelector("li b")?.textContent === "item 7");
    told.dropped = [lists()[0][0], document.getElementById("shown").hidden];
    document.getElementById("filter").value = "no=1";
    document.getElementById("ask").requestSubmit();
    await until(() => document.getElementById("said").textContent.includes("unknown"));
    told.refused = document.getElementById("said").textContent;
    const reached = [...document.querySelectorAll("input, button, a, select")].filter(each => each.tabIndex >= 0);
    told.named = reached.every(each => each.labels?.length || each.ariaLabel || each.textContent);
    told.wide = document.documentElement.scrollWidth > innerWidth;
    told.width = innerWidth;
  } catch (error) { told.errors.push(String(error)); }
  answer.id = "told"; answer.textContent = JSON.stringify(told); document.body.append(answer);
})();
</script>
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A dense model and an artifact of it that lost something, each with a store of its own."""
    from rcc.serving import app
    from rcc.serving.models import ServedModel
    from rcc.store import EmbeddingStore

    folder = tmp_path_factory.mktemp("served")
    dense = Path(rcc.__file__).parent / "assets/clip_tiny"
    model = rcc.load_model("clip_tiny")
    draw = np.random.default_rng(0)
    for unit in model.units():
        if unit.role == "mlp":
            values = unit.read().sparse
            noise = values.new_tensor(draw.normal(size=values.shape))
            unit.write(replace(unit.read(), sparse=values + 0.6 * values.std() * noise))
    metrics = {"test": {"accuracy": 0.9}, "dense_test": {"accuracy": 0.95}}
    rcc.save(model, folder / "artifact", dtype="float32", metrics=metrics)
    models, stores = {}, []
    images = [np.asarray(image) for image in rcc.load_data("digits").test.images[:40]]
    for name, path in (("dense", dense), ("small", folder / "artifact")):
        models[name] = ServedModel(name, path, "cpu", 8, 64)
        store = EmbeddingStore(folder / f"store-{name}", model=models[name].checksum)
        fields = [{"place": place, "split": "test"} for place in range(40)]
        store.add([f"item {place}" for place in range(40)], rcc.CLIPEngine(path).encode_image(images), fields)
        stores.append(store)
    service = app.Service(models, stores)
    socket_ = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(service.application(), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket_]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{socket_.getsockname()[1]}/", folder
    server.should_exit = True
    thread.join(10)


def browse(url: str, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """What Chromium prints of a page, and what its console says."""
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=60000", *flags, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [1100, 320])
def test_two_models_side_by_side_are_searched_by_text_and_image(
    served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    import base64
    import io

    from PIL import Image

    from rcc.serving import app

    url, _ = served
    content = io.BytesIO()
    Image.fromarray(np.asarray(rcc.load_data("digits").test.images[7])).save(content, "PNG")
    picture = "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
    page = app._shipped("page.html")
    script = TRY.replace("PICTURE", json.dumps(picture))
    monkeypatch.setattr(app, "_shipped", lambda name: page.replace("</html>", script + "</html>"))
    dom, said = browse(url, tmp_path / "profile", "--dump-dom", f"--window-size={width},900")
    told = json.loads(html.unescape(dom.rpartition('<pre id="told">')[2].partition("</pre>")[0]))
    assert (told["errors"], told["focus"], told["lost"]) == ([], "query", True)
    assert told["cards"] == ["dense", "small"]
    assert [len(each) for each in told["both"]] == [12, 12]
    shared = len(set(told["both"][0]) & set(told["both"][1]))
    assert told["said"] == f"{shared} of 12 found by both models."
    assert told["alone"] == 2 * (12 - shared) > 0
    assert told["one"] == ["small", 12]
    assert told["dropped"] == ["item 7", False]
    assert "unknown field 'no'" in told["refused"]
    assert (told["named"], told["wide"]) == (True, False)
    assert [line for line in said if "400" not in line] == []  # the refused filter is a 400, which the console notes


def test_an_address_with_a_query_shows_what_is_found_and_the_console_stays_empty(served: Any, tmp_path: Path) -> None:
    url, _ = served
    dom, said = browse(f"{url}?query=a+photo+of+the+digit+three", tmp_path / "profile", "--dump-dom")
    assert dom.count("<li>") == 24
    assert said == []
