"""What is embedded of data, under which id, with which fields, and how far it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rcc.data.splits import Split
from rcc.engine.vision import VisionEncoder
from rcc.errors import UserError
from rcc.jobs import items
from rcc.jobs.items import Embedder, Item, cut_note, embedder_of, in_blocks, items_of
from rcc.models.registry import load_model
from rcc.reporting.drawing import Terminal


def test_items_are_those_of_the_splits_asked_for_with_what_is_known_of_them(digits: Any) -> None:
    found = items_of(digits, "selection", None)
    assert [item.id for item in found[:2]] == ["selection/0", "selection/1"]
    fields = found[3].fields(digits.class_names)
    assert fields["label"] == digits.class_names[digits.selection.labels[3]]
    assert (fields["split"], fields["caption"], len(fields["digest"])) == ("selection", None, 64)
    everything = items_of(digits, "all", None)
    assert len({item.id for item in everything}) == len(everything) == sum(len(split) for _, split in digits)


def test_a_model_embeds_images_before_texts_by_what_it_gives(digits: Any, checkpoint_of: Any) -> None:
    clip, vit = (embedder_of(load_model(name, path=checkpoint_of(name)), digits) for name in ("clip", "vit"))
    assert [(each.field, each.kind) for each in (clip, vit)] == [("images", "clip"), ("images", "vision")]
    some = [digits.test.images[place] for place in range(5)]
    np.testing.assert_allclose(vit.encode(some, 2), VisionEncoder(checkpoint_of("vit")).encode(some), atol=1e-6)


def test_blocks_hold_every_item_in_order_and_progress_is_told(
    digits: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(items, "BLOCK", 100)
    monkeypatch.setattr(items, "TOLD", 0.0)
    every = items_of(digits, "selection", None)
    counting = Embedder("images", "clip", lambda values, batch: np.full((len(values), 3), batch, np.float32))
    blocks = list(in_blocks(every, counting, 7, Terminal(highlight=False)))
    assert [len(vectors) for _, vectors in blocks] == [100, 100, 84]
    assert [item for block, _ in blocks for item in block] == every
    assert "embedded 200 of 284, " in capsys.readouterr().out


def test_data_without_what_the_model_reads_are_refused(digits: Any, tmp_path: Path) -> None:
    from toys.checkpoints import TOWER, bert_tokenizer, save
    from transformers import BertConfig, BertModel

    tokenizer = bert_tokenizer()
    path = save(tmp_path / "bert", BertModel, BertConfig(**TOWER, vocab_size=len(tokenizer)), tokenizer)
    with pytest.raises(UserError, match=r"reads texts.*and the data have images: there is nothing to embed"):
        embedder_of(load_model("auto", path=path), digits)


def test_texts_that_are_longer_than_the_model_reads_are_counted(checkpoint_of: Callable[[str], Path]) -> None:
    model = load_model("auto", path=checkpoint_of("text_encoder"), device="cpu")
    split = Split("corpus", texts=["a dog", "one two three four five six seven eight nine zero a dog", "six"])
    found = [Item(str(place), split, place) for place in range(3)]
    assert cut_note(model, found) == "1 of 3 texts have more than 12 tokens and were cut there."
    assert cut_note(model, found[:1]) == cut_note(model, []) == ""
