"""A page is one file of bounded size in which nothing out of files is anything but text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from toys.recorded import HOSTILE, write_items, write_run, write_sweep

from rcc.errors import UserError
from rcc.reporting.page.write import page_text, write_page

LAYERS = {f"model.layers.{block}.{kind}": {"sparsity": 0.5, "bits": 4} for block in range(24) for kind in "qkvo"}


class Tags(HTMLParser):
    """The tags of a page with their attributes, and what is written in it."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def hostile_run(directory, **changed):
    """A run whose every name would run code in a page that does not escape it."""
    run = write_run(
        directory,
        f"model={HOSTILE}",
        f"data={HOSTILE}",
        labels=[HOSTILE, "quant"],
        layers={f"a.0.{HOSTILE}": {"sparsity": 0.5}, HOSTILE: {"bits": 4}},
        missed=HOSTILE,
        **changed,
    )
    content = json.loads((run / "run.json").read_text())
    content["environment"] |= {"platform": "\ud800", "cpu": HOSTILE, HOSTILE: HOSTILE, "git": {"commit": HOSTILE}}
    content["attempts"][0]["status"] = HOSTILE
    content["result"]["primary"] = HOSTILE
    (run / "run.json").write_text(json.dumps(content))
    with (run / "metrics.jsonl").open("a") as file:
        for prefix in ("dense", "compressed", "difference"):
            line = {"step": None, "stage": "artifact", "name": f"{prefix}.{HOSTILE}", "value": 1, "unit": HOSTILE}
            file.write(json.dumps(line) + "\n")
    write_items(run, [1, 0], [0, 1])
    content = json.loads((run / "items.json").read_text()) | {"split": HOSTILE}
    (run / "items.json").write_text(json.dumps(content))
    return run


def pages(tmp_path):
    """Pages of a run, a sweep and a set, all of hostile names."""
    run = hostile_run(tmp_path / "run")
    sweep = write_sweep(tmp_path / "sweep", [(0.9, 100)], space=[f"{HOSTILE}=a,b"], fixed=[HOSTILE], constraints=[])
    hostile_run(sweep / "1")
    (sweep / "2").mkdir()
    (sweep / "2/run.json").write_text(json.dumps({"format": HOSTILE}))
    return [page_text([run]), page_text([sweep]), page_text([run, sweep])]


def test_names_out_of_files_are_text_and_nothing_else(tmp_path):
    for page in pages(tmp_path):
        found = Tags(page)
        assert [tag for tag, _ in found.tags].count("script") == 1
        assert "img" not in [tag for tag, _ in found.tags]
        assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
        assert '<script>alert("x")</script>' in found.text
        assert "{{ 7*7 }}" in found.text


def test_a_page_asks_nothing_of_a_network_and_runs_its_own_script_alone(tmp_path):
    for page in pages(tmp_path):
        found = Tags(page)
        assert not [value for _, told in found.tags for name, value in told.items() if name in ("src", "href")]
        assert "url(" not in page
        assert "@import" not in page
        policy = next(told["content"] for tag, told in found.tags if tag == "meta" and "http-equiv" in told)
        assert policy.startswith("default-src 'none'; img-src data:;")
        assert "script-src 'sha256-" in policy


def test_the_first_line_is_the_answer(tmp_path):
    page = page_text([write_run(tmp_path / "run")])
    body = page[page.index("<body>") :]
    assert re.search(r"<body>\s*<p class=\"answer\">clip_tiny takes 200 kB on disk", body)


def test_pages_are_small(tmp_path):
    run = write_run(tmp_path / "run", layers=LAYERS)
    write_items(run, [1.0] * 5000, [0.0] * 5000)
    assert len(page_text([run]).encode()) < 300_000
    sweep = write_sweep(tmp_path / "sweep", [(0.5 + 0.002 * number, 1000 + number) for number in range(200)])
    assert len(page_text([sweep]).encode()) < 2_000_000


def test_a_page_is_written_beside_the_report_and_again_over_itself(tmp_path):
    run = write_run(tmp_path / "run")
    assert write_page([run]) == run / "report.html"
    assert write_page([run]).read_text().startswith("<!doctype html>\n<!-- rcc report -->")


def test_a_file_that_is_no_page_is_never_overwritten(tmp_path):
    (tmp_path / "mine.html").write_text("<!doctype html>\n<p>mine")
    with pytest.raises(UserError, match="is no report that rcc wrote"):
        write_page([write_run(tmp_path / "run")], tmp_path / "mine.html")
    assert (tmp_path / "mine.html").read_text() == "<!doctype html>\n<p>mine"


def test_a_folder_of_neither_is_refused(tmp_path):
    with pytest.raises(UserError, match="neither a run nor a sweep"):
        page_text([tmp_path])


def test_settings_that_nest_without_end_are_left_out(tmp_path):
    run = write_run(tmp_path / "run")
    text = (run / "run.json").read_text().replace('"a processor"', '{"a":' * 900 + "1" + "}" * 900)
    (run / "run.json").write_text(text)
    assert "clip_tiny takes 200 kB" in page_text([run])
    assert "2 runs" in page_text([run, write_run(tmp_path / "other")])


def test_the_script_is_short():
    from importlib import resources

    script = resources.files("rcc.reporting.page").joinpath("templates/page.js").read_text()
    assert len(script.splitlines()) <= 40
