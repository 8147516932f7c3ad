"""Checkpoint directories of every architecture that has an adapter: tiny, random, built offline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from toys.networks import ResNet
from toys.open_clip import config_of, random_open_clip, save_open_clip
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    ConvNextImageProcessorPil,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

import rcc

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


def save_blip(directory: Path, model_class: type[PreTrainedModel] = BlipForConditionalGeneration) -> Path:
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


def save_blip_retrieval(directory: Path) -> Path:
    return save_blip(directory, BlipForImageTextRetrieval)


def siglip_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, capitals and punctuation unknown to it; a text ends with </s>, which also pads."""
    vocabulary = {token: index for index, token in enumerate(["<unk>", "</s>", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>", pad_token="</s>", model_max_length=16
    )


def save_siglip(directory: Path) -> Path:
    tokenizer = siglip_tokenizer()
    text = TOWER | {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "projection_size": 32}
    text |= {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 1}
    config = SiglipConfig(text_config=text, vision_config=VISION)
    return save(directory, SiglipModel, config, SiglipImageProcessorPil(size=SIDE), tokenizer)


def save_clip_vision(directory: Path) -> Path:
    config = CLIPVisionConfig(**VISION, projection_dim=16)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIDE)
    return save(directory, CLIPVisionModelWithProjection, config, processor)


def save_vit(directory: Path, class_names: Sequence[str] = WORDS[5:15]) -> Path:
    names = dict(enumerate(class_names))
    config = ViTConfig(**VISION, id2label=names, label2id={name: index for index, name in names.items()})
    return save(directory, ViTForImageClassification, config, ViTImageProcessorPil(size=SIDE))


def save_network(directory: Path) -> Path:
    """The file of a network of the user's own, with what each logit stands for left to the data."""
    directory.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(ResNet(), str(directory / "weights.safetensors"))
    return directory / "weights.safetensors"


def save_resnet(directory: Path) -> Path:
    """Of an architecture without an adapter of its own; what each logit stands for is left to the data."""
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=10, hidden_act="relu"
    )
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=1.0)
    return save(directory, ResNetForImageClassification, config, processor)


def save_clip_of_open_clip(directory: Path) -> Path:
    """In open_clip's layout, with the tokenizer of the CLIP that ships."""
    tokenizer = Path(rcc.__file__).parent / "assets/clip_tiny"
    model = random_open_clip(len(CLIPTokenizer.from_pretrained(tokenizer)))
    return save_open_clip(directory, model, config_of(model), tokenizer)


def save_whisper(directory: Path, model_class: type[PreTrainedModel] = WhisperForConditionalGeneration) -> Path:
    """Of windows of one second: 100 frames, 50 positions."""
    config = WhisperConfig(
        vocab_size=60, num_mel_bins=8, d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=50,
        max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return save(directory, model_class, config, WhisperFeatureExtractor(feature_size=8, chunk_length=1))


def save_sentences(directory: Path, normalise: bool = True, prompts: dict[str, str] | None = None) -> Path:
    """An encoder of sentences as sentence-transformers saves it: BERT, the mean of at most 12 tokens."""
    config = BertConfig(**TOWER, vocab_size=len(bert_tokenizer()), max_position_embeddings=32)
    save(directory, BertModel, config, bert_tokenizer())
    kinds = ["Transformer", "Pooling", "Normalize"][: 2 + normalise]
    written = {
        "modules.json": [{"path": "", "type": f"sentence_transformers.models.{kind}"} for kind in kinds],
        "1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": 12, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": prompts or {}, "default_prompt_name": None},
    }
    for name, content in written.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(json.dumps(content))
    return directory


SAVE = {
    "auto": save_vit,
    "blip": save_blip,
    "blip_retrieval": save_blip_retrieval,
    "clip_vision": save_clip_vision,
    "module": save_network,
    "open_clip": save_clip_of_open_clip,
    "siglip": save_siglip,
    "text_encoder": save_sentences,
    "transformers": save_resnet,
    "vit": save_vit,
    "whisper": save_whisper,
}
