"""Checkpoint directories of every architecture that has an adapter: tiny, random, built offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import BertTokenizer, BlipConfig, BlipImageProcessorPil, PreTrainedModel

SENTENCE = "a photo of the digit zero one two three four five six seven eight nine cat dog red blue on in is"
WORDS = SENTENCE.split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
VISION = TOWER | {"image_size": 32, "patch_size": 8, "initializer_range": 0.02}
SIDE = {"height": 32, "width": 32}


def save(directory: Path, model_class: type[PreTrainedModel], config: Any, *processors: Any) -> Path:
    """Weights of seed 0 with every parameter moved, so that no bias is zero and no norm the identity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(directory)
    for processor in processors:
        processor.save_pretrained(directory)
    return directory


def bert_tokenizer() -> BertTokenizer:
    pieces = [*WORDS, *LETTERS, *".,", *(f"##{letter}" for letter in LETTERS)]
    tokens = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces])
    return BertTokenizer(vocab={token: index for index, token in enumerate(tokens)}, do_lower_case=True)


def save_blip(directory: Path, model_class: type[PreTrainedModel]) -> Path:
    """As the published ones are: the decoder's own start is a token that the tokenizer does not know."""
    tokenizer = bert_tokenizer()
    text = TOWER | {
        "vocab_size": len(tokenizer) + 2,
        "max_position_embeddings": 64,
        "bos_token_id": len(tokenizer),
        "eos_token_id": 2,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = BlipConfig(text_config=text, vision_config=VISION, image_text_hidden_size=16)
    return save(directory, model_class, config, BlipImageProcessorPil(size=SIDE), tokenizer)
