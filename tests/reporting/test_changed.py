"""Items that changed are told from both models' values, with pictures of them kept beside."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from toys.recorded import write_items

from rcc.measurement import Measurement, Metric
from rcc.reporting.changed import MOST_BYTES, MOST_PICTURES, SIDE, read_changes, write_pictures


def measured(values):
    details = {"zero_shot": {"per_image": {"accuracy": list(values)}}}
    return Measurement(
        (Metric("accuracy", float(np.mean(values)), "fraction"),), "accuracy", "test", len(values), details
    )


def images(count, side=200):
    noise = np.random.default_rng(0).integers(0, 255, (count, side, side // 2, 3), dtype=np.uint8)
    return [Image.fromarray(each) for each in noise]


def test_what_was_lost_and_won_is_told_by_its_number(tmp_path):
    write_items(tmp_path, [1, 1, 0, 0, 1], [1, 0, 1, 0, 1])
    changes = read_changes(tmp_path, "accuracy")
    assert (changes.metric, changes.split, changes.items) == ("accuracy", "test", 5)
    assert [each.index for each in changes.lost] == [1]
    assert [each.index for each in changes.won] == [2]


def test_the_largest_changes_come_first(tmp_path):
    write_items(tmp_path, [0.9, 0.9, 0.9], [0.8, 0.1, 0.5])
    assert [each.index for each in read_changes(tmp_path).lost] == [1, 2, 0]


def test_pictures_are_small_and_come_back_as_data(tmp_path):
    write_items(tmp_path, [1, 1, 0], [1, 0, 1])
    write_pictures(tmp_path, images(3), "6a02", measured([1, 1, 0]), measured([1, 0, 1]))
    changes = read_changes(tmp_path)
    (lost,), (won,) = changes.lost, changes.won
    for each in (lost, won):
        kind, _, content = each.picture.partition(";base64,")
        assert kind in ("data:image/png", "data:image/jpeg")
        assert max(Image.open(io.BytesIO(base64.b64decode(content))).size) == SIDE


def test_no_more_pictures_are_kept_than_a_page_shows(tmp_path):
    write_pictures(tmp_path, images(40, 8), "6a02", measured([1] * 40), measured([0] * 40))
    assert len(json.loads((tmp_path / "pictures.json").read_text())["pictures"]) == MOST_PICTURES


def test_pictures_of_other_data_are_not_shown(tmp_path):
    write_items(tmp_path, [1], [0], fingerprint="other")
    write_pictures(tmp_path, images(1), "6a02", measured([1]), measured([0]))
    assert read_changes(tmp_path).lost[0].picture == ""


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(b"<svg onload=alert(1)>").decode(),
        base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"x" * MOST_BYTES).decode(),
        'x" onerror="alert(1)',
        "javascript:alert(1)",
        7,
    ],
)
def test_what_is_no_small_png_or_jpeg_is_not_shown(tmp_path, text):
    write_items(tmp_path, [1], [0])
    (tmp_path / "pictures.json").write_text(json.dumps({"data_fingerprint": "6a02", "pictures": {"0": text}}))
    assert read_changes(tmp_path).lost[0].picture == ""


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"models": []},
        {"models": {"dense": {"zero_shot": 3}, "compressed": {}}},
        {"models": {"dense": {"a": {"per_image": {"b": [1]}}}, "compressed": {"a": {"per_image": {"b": [1, 2]}}}}},
    ],
)
def test_a_file_without_values_to_compare_has_no_changes(tmp_path, content):
    (tmp_path / "items.json").write_text(json.dumps(content))
    assert read_changes(tmp_path) is None


def test_predictions_are_told_where_both_models_have_them(tmp_path):
    def details(predictions, values):
        return {"zero_shot": {"labels": [4], "predictions": predictions, "per_image": {"accuracy": values}}}

    content = {"split": "test", "models": {"dense": details([4], [1]), "compressed": details([9], [0])}}
    (tmp_path / "items.json").write_text(json.dumps(content))
    assert read_changes(tmp_path).lost[0].told == "class 4: 4 became 9"
