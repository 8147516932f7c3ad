"""The quality benchmark measures reloaded artifacts, does no run twice, and says which recipes cannot arrive."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


def benchmark(tmp_path, *arguments):
    command = [sys.executable, str(ROOT / "benchmarks/quality.py"), "--quick", "--seed", "0", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    folders = ["--cache", str(tmp_path / "cache"), "--output", str(tmp_path)]
    subprocess.run([*command, *folders], check=True, capture_output=True, env=environment)
    rows = (tmp_path / "cache" / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads((tmp_path / "quality.json").read_text(encoding="utf-8")), rows


def test_a_run_lands_on_its_ratio_is_written_at_once_and_is_not_done_again(tmp_path):
    result, rows = benchmark(tmp_path, "--ratio", "13", "--recipe", "magnitude, per layer")
    (row,) = result["rows"]
    assert (row["recipe"], row["seed"], row["ratio"], row["problem"]) == ("magnitude, per layer", 0, 13, "")
    assert row["dense_bytes"] / row["bytes"] == row["reached"] == pytest.approx(13, rel=0.011)
    assert row["selection_images"] == row["test_images"] == 40
    assert 0 < row["image_distance"] < 2
    assert row["distance"] == pytest.approx((row["image_distance"] + row["text_distance"]) / 2)
    assert len(result["control"]) == 1
    assert 2 < result["control"][0] < 3
    assert "| magnitude, per layer | 1" in (tmp_path / "quality.md").read_text(encoding="utf-8")
    again, rows_again = benchmark(tmp_path, "--ratio", "13", "--recipe", "magnitude, per layer")
    assert again["rows"] == result["rows"]
    assert rows_again == rows
    assert len(rows) == 1


def test_every_recipe_is_a_valid_command_at_each_of_its_ratios(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from quality_recipes import RECIPES

    from rcc.composing.composition import composer, own
    from rcc.run import problems

    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)
    with composer() as configs:
        found = {
            (recipe.name, ratio): problems(own(configs.compose(recipe.at(ratio))))
            for recipe in RECIPES
            for ratio in recipe.ratios
        }
    assert not {key: wrong for key, wrong in found.items() if wrong}


def test_the_table_is_ordered_by_distance_and_puts_what_did_not_arrive_last(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from quality_table import table

    def row(recipe, distance, selection=0.9, problem=""):
        common = {"recipe": recipe, "seed": 0, "ratio": 13.0, "problem": problem}
        if problem:
            return common
        accuracies = {"selection": selection, "test": 0.5, "dense_selection": 1.0, "dense_test": 1.0}
        counts = {"selection_images": 100, "test_images": 400, "processor": 1.0, "reached": 13.0}
        return common | accuracies | counts | dict.fromkeys(("distance", "image_distance", "text_distance"), distance)

    rows = [row("far", 0.2, 0.95), row("never", 0, problem="a target cannot be met: the least is"), row("near", 0.1)]
    written = table({"rows": rows, "control": [2.5], "machine": {"torch": "2"}})
    lines = [text for text in written.splitlines() if text.startswith(("| far", "| near", "| never"))]
    assert lines == [
        "| near | 13.0 | 0.10000 | 0.10000 | 0.10000 | 90.00 (90.00–90.00) ± 3.00 | 50.00 (50.00–50.00) ± 2.50 | 1 |",
        "| far | 13.0 | 0.20000 | 0.20000 | 0.20000 | 95.00 (95.00–95.00) ± 2.18 | 50.00 (50.00–50.00) ± 2.50 | 1 |",
        "| never | out of reach (1 of 1 seeds) | | | | | | |",
    ]
