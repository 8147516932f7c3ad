"""Every kind of model with every evaluator that makes sense for it, on files; all else is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PIL import Image

from rcc.data.registry import load_data
from rcc.data.splits import Splits
from rcc.errors import UserError
from rcc.evaluation.registry import load_evaluator
from rcc.models.adapter import Adapter

CLASSES = ("zero", "one", "two", "three", "four", "five")
SIZES = {"train": 0, "calibration": 3, "selection": 3, "test": 12}
OPTIONS = {"zero_shot": {}, "classification": {}, "retrieval": {}, "re-ranking": {"rerank_top_k": 3}}
FITTING = {
    ("clip", "zero_shot"), ("clip", "retrieval"),
    ("siglip", "zero_shot"), ("siglip", "retrieval"),
    ("blip_retrieval", "zero_shot"), ("blip_retrieval", "retrieval"), ("blip_retrieval", "re-ranking"),
    ("vit", "classification"),
}  # fmt: skip
MODELS = ("clip", "siglip", "blip_retrieval", "blip", "clip_vision", "vit")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Splits]:
    """18 JPEG files, in folders by class and in a CSV file with one to three captions each."""
    root = tmp_path_factory.mktemp("photographs")
    lines = ["path,caption"]
    for index in range(18):
        name = CLASSES[index % len(CLASSES)]
        path = root / "photographs" / name / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40 + index, 36), (13 * index, 255 - 13 * index, index)).save(path)
        lines += [f"{path.relative_to(root)},a photo of {word} {name}" for word in ("the", "a", "one")[: 1 + index % 3]]
    (root / "captions.csv").write_text("\n".join(lines))
    return {
        "classes": load_data("image_folder", path=str(root / "photographs"), **SIZES),
        "captions": load_data("image_text", path=str(root / "captions.csv"), **SIZES),
    }


def evaluate(adapter: Adapter, way: str, data: dict[str, Splits]) -> dict[str, float]:
    name = "retrieval" if way == "re-ranking" else way
    splits = data["captions" if name == "retrieval" else "classes"]
    measured = load_evaluator(name, batch_size=5, **OPTIONS[way]).evaluate(adapter, splits.test, splits)
    assert measured.samples == len(splits.test) == 12
    return {metric.name: metric.value for metric in measured.metrics}


@pytest.mark.parametrize(("model", "way"), sorted(FITTING))
def test_what_fits_is_measured(
    model: str, way: str, data: dict[str, Splits], random_model: Callable[[str], Adapter]
) -> None:
    found = evaluate(random_model(model), way, data)
    assert len(found) == (9 if way in ("retrieval", "re-ranking") else 3)
    assert all(0 <= value <= 1 for name, value in found.items() if "rank" not in name)


@pytest.mark.parametrize(("model", "way"), sorted({(model, way) for model in MODELS for way in OPTIONS} - FITTING))
def test_what_does_not_fit_is_refused_by_the_models_name(
    model: str, way: str, data: dict[str, Splits], random_model: Callable[[str], Adapter]
) -> None:
    with pytest.raises(UserError, match=rf"model '{model}'.*(does not|no texts)"):
        evaluate(random_model(model), way, data)
