"""A page in headless Chromium, where there is one: it draws, sorts, hides, marks, and nothing is refused."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest
from toys.recorded import write_run, write_sweep

from rcc.reporting.page.write import page_text

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

TRY = """
<script>
const told = {};
const rows = () => [...document.querySelectorAll("table.sort tbody tr")].slice(0, 3);
const first = () => rows().map((row) => row.cells[0].textContent);
told.before = first();
const heads = [...document.querySelectorAll("table.sort th button")];
const column = heads.find((head) => head.textContent === "bytes");
column.click(); told.up = first(); column.click(); told.down = first();
const legend = document.querySelector(".legend button");
const shown = () => document.querySelectorAll(`svg [data-series="${legend.dataset.shows}"]:not(.off)`).length;
told.shown = shown(); legend.click(); told.hidden = shown();
document.querySelector("circle").dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
told.hot = document.querySelectorAll(".hot").length;
document.querySelector("circle").dispatchEvent(new MouseEvent("click", { bubbles: true }));
told.tip = document.getElementById("tip").textContent;
told.wide = document.documentElement.scrollWidth > innerWidth;
const answer = document.createElement("pre");
answer.id = "told"; answer.textContent = JSON.stringify(told); document.body.append(answer);
</script>
"""


def browse(path, *flags):
    """What Chromium prints of a page, and what it has to say about it."""
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={path.parent}/profile"]
    command += ["--enable-logging=stderr", "--dump-dom", *flags, path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, said


@pytest.fixture
def sweep(tmp_path):
    return write_sweep(tmp_path / "sweep", [(0.9, 300_000), (0.95, 400_000), (0.8, 100_000), (0.7, 200_000)])


def test_its_own_script_runs_and_nothing_is_refused(tmp_path, sweep):
    for place in (sweep, write_run(tmp_path / "run", layers={"a.0.q": {"sparsity": 0.5}})):
        page = tmp_path / "page.html"
        page.write_text(page_text([place]))
        dom, said = browse(page)
        assert "<svg" in dom
        assert said == []


@pytest.mark.parametrize("width", [1100, 390])
def test_columns_sort_series_hide_and_a_trial_is_marked_wherever_it_is(tmp_path, sweep, width):
    page = tmp_path / "page.html"
    text = re.sub("script-src 'sha256-[^']*'", "script-src 'unsafe-inline'", page_text([sweep]))
    page.write_text(text.replace("</body>", f"{TRY}</body>"))
    dom, _ = browse(page, f"--window-size={width},900")
    told = json.loads(html.unescape(dom.rpartition('<pre id="told">')[2].partition("</pre>")[0]))
    assert told["before"] == ["0", "1", "2"]
    assert told["up"] == ["2", "3", "0"]
    assert told["down"] == ["1", "0", "3"]
    assert (told["shown"] > 0, told["hidden"]) == (True, 0)
    assert told["hot"] == 4  # its point, its row, its line and its time
    assert told["tip"].startswith("trial ")
    assert told["wide"] is False
