"""Processors beside the weights: found by their files, of the library's classes alone, their numbers bounded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toys.checkpoints import bert_tokenizer
from toys.language import bert_config, whisper
from transformers import ResNetConfig, ViTImageProcessorPil, WhisperFeatureExtractor

from rcc.errors import UserError
from rcc.models.transformers.processors import Processors, read_processors


def test_what_lies_there_is_read_and_nothing_else(tmp_path: Path) -> None:
    assert read_processors(str(tmp_path), ResNetConfig()) == Processors()
    config = bert_config()
    config.vocab_size = len(bert_tokenizer())
    bert_tokenizer().save_pretrained(tmp_path)
    ViTImageProcessorPil(image_mean=[0.1] * 3, image_std=[0.2] * 3).save_pretrained(tmp_path)
    found = read_processors(str(tmp_path), config)
    assert type(found.image) is ViTImageProcessorPil
    assert found.moments() == ([0.1] * 3, [0.2] * 3)
    assert found.reads(("input_ids",)) == ("texts",)
    assert found.reads(("pixel_values", "input_ids")) == ("images", "texts")
    WhisperFeatureExtractor(feature_size=8).save_pretrained(tmp_path)
    assert read_processors(str(tmp_path), whisper().config.__class__(vocab_size=80)).reads(("input_features",)) == (
        "audio",
    )


def test_foreign_classes_and_numbers_without_bound_are_refused(tmp_path: Path) -> None:
    def refused(match: str, **content: object) -> None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=match):
            read_processors(str(tmp_path), ResNetConfig())

    refused("names the processor 'OwnImageProcessorPil', which this version", image_processor_type="OwnImageProcessor")
    refused("names the processor 'os'", feature_extractor_type="os", feature_size=3)
    refused("chunk_length is 1000000000; at most", feature_extractor_type="WhisperFeatureExtractor", chunk_length=10**9)
    refused("height is 100000", image_processor_type="ViTImageProcessor", size={"height": 100000, "width": 32})


def test_a_tokenizer_of_more_tokens_than_the_model_embeds_is_refused(tmp_path: Path) -> None:
    bert_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="tokens and the model embeds 50"):
        read_processors(str(tmp_path), bert_config())
