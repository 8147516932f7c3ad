"""What the engine and the encoders have in common: paths without a model, batch sizes, and when files are opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rcc
from rcc.engine.opening import OpensModel, opened
from rcc.errors import UserError

ALL = (rcc.CLIPEngine, rcc.TextEncoder, rcc.VisionEncoder, rcc.AudioEncoder)
TINY = Path(rcc.__file__).parent / "assets/clip_tiny"


@pytest.mark.parametrize("kind", ALL)
def test_a_path_without_a_model_is_refused_before_anything_is_opened(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no model: there is nothing"):
        kind(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no model: there is a directory without config.json"):
        kind(tmp_path)
    (tmp_path / "artifact").mkdir()
    with pytest.raises(UserError, match=r"is the directory of a run; its model is .*artifact"):
        kind(tmp_path)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("size", [0, -1, 1.5, "many", True])
def test_a_batch_is_one_item_or_more(kind: Any, size: Any) -> None:
    with pytest.raises(UserError, match=rf"{kind.__name__}: batch_size"):
        kind(TINY, batch_size=size)


def test_the_model_is_opened_once_as_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Path, dict[str, Any]]] = []

    def counted(path: Path, **options: Any) -> Any:
        calls.append((path, options))
        return opened(path, **options)

    monkeypatch.setattr("rcc.engine.opening.opened", counted)
    engine: OpensModel[Any] = rcc.VisionEncoder(TINY, dtype="bfloat16", verify=False)
    assert calls == []
    assert engine.model is engine.model
    assert calls == [(TINY, {"device": "auto", "dtype": "bfloat16", "verify": False})]


def test_a_model_of_another_kind_is_refused_by_name_when_it_is_opened() -> None:
    encoder = rcc.AudioEncoder(TINY)
    with pytest.raises(UserError, match=r"holds a model 'clip.*, which reads images, texts\. AudioEncoder takes"):
        _ = encoder.model
