"""What a forward takes, by the names of its parameters, and tensors of the fields of data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys.checkpoints import bert_tokenizer
from toys.language import bert, whisper
from toys.networks import ResNet, Sentences

from rcc.errors import UserError
from rcc.models.own.fields import Fields, read_tokenizer, tensor_of, tokens_of
from rcc.models.transformers.processor_files import save_tokenizer


class Tabular(nn.Module):
    def forward(self, numbers: Tensor, counts: Tensor) -> Tensor:
        return numbers + counts


class Both(nn.Module):
    def forward(self, input_ids: Tensor, pixel_values: Tensor) -> Tensor:
        return pixel_values + input_ids


def test_pixels_tokens_and_other_fields_are_told_by_their_names() -> None:
    assert Fields.of(ResNet()) == Fields(("x",), ("x",), "x")
    assert Fields.of(ResNet()).only_pixels
    assert Fields.of(ResNet()).reads == ("images", "x")
    assert Fields.of(Sentences()).reads == ("texts", "input_ids", "attention_mask")
    assert Fields.of(Tabular()).reads == ("numbers", "counts")
    assert Fields.of(Both()).reads == ("images", "texts", "input_ids", "pixel_values")
    assert not Fields.of(Both()).only_pixels
    assert Fields.of(bert()).pixels == ""
    assert Fields.of(whisper()).pixels == ""


def test_items_of_a_field_are_stacked_or_refused() -> None:
    assert tensor_of("x", [np.ones(2), torch.zeros(2)]).tolist() == [[1, 1], [0, 0]]
    assert tensor_of("x", [1, 2]).tolist() == [1, 2]
    with pytest.raises(UserError, match=r"field 'x' have several shapes \(\[2\], \[3\]\): pad them"):
        tensor_of("x", [np.ones(2), np.ones(3)])
    with pytest.raises(UserError, match="holds str and no numbers"):
        tensor_of("x", ["a", "b"])


def test_a_tokenizer_is_found_beside_the_weights_or_where_it_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    save_tokenizer(tmp_path / "words", bert_tokenizer())
    assert read_tokenizer(None, tmp_path, 90) is None
    words = read_tokenizer(str(tmp_path / "words"), tmp_path, 90)
    found = tokens_of(words, ["one dog", "two"], None, ("input_ids",))
    assert list(found) == ["input_ids"]
    assert found["input_ids"].shape == (2, 4)
    with pytest.raises(UserError, match=r"model.tokenizer '.*' holds no tokenizer.json"):
        read_tokenizer(str(tmp_path), None, 90)
    with pytest.raises(UserError, match="tokens and the model embeds 10"):
        read_tokenizer(None, tmp_path / "words", 10)
