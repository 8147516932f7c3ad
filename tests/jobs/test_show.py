"""job=show prints what an artifact holds, in either container, and writes nothing."""

from __future__ import annotations

import pytest
from toys.adapters import compress, dense_toy, quantise

from rcc.artifact.size import directory_bytes
from rcc.artifact.write import write_artifact


@pytest.fixture(params=["file", "directory"])
def shown(request, rcc_run, tmp_path):
    """(path, exit code, lines) of a toy's artifact in either container."""
    path = tmp_path / ("toy.rcc" if request.param == "file" else "toy")
    config = {"stage": {"dare": {}, "quant": {}}, "model": {"name": "toy"}, "data": {"name": "digits"}, "seed": 3}
    metrics = {"selection": {"accuracy": 0.5}}
    toy = quantise(compress(dense_toy()), "image", "words")
    write_artifact(toy, path, "float16", config, metrics, container=request.param)
    code, out, err = rcc_run("job=show", f"artifact={path}")
    assert code == 0, err
    return path, out


def test_bytes_add_up_to_those_on_disk(shown, tmp_path):
    path, out = shown
    rows = [line for line in out.splitlines() if line.endswith("%")]
    table = [row.split()[-2] for row in rows if not row.startswith("-")][:6]
    *parts, total = (int(number.replace(",", "")) for number in table)
    assert sum(parts) == total == directory_bytes(path)
    assert [place.name for place in tmp_path.iterdir()] == [path.name]


def test_tensors_encodings_files_and_what_made_it_are_told(shown):
    _, out = shown
    assert "words.right" in out
    assert "processor/size.txt" in out
    assert "Made by dare → quant, model=toy, data=digits, seed 3." in out
    assert "selection: accuracy 0.5." in out
    assert max(map(len, out.splitlines()[1:])) <= 80


def test_what_is_no_artifact_is_refused(rcc_run, tmp_path):
    code, _, err = rcc_run("job=show", f"artifact={tmp_path}")
    assert (code, "is not an artifact: it has no manifest.json" in " ".join(err.split())) == (2, True), err
    code, _, err = rcc_run("job=show")
    assert (code, "job=show needs an artifact" in err) == (2, True)
