"""Networks of transformers of a few thousand random values that read tokens or sounds, and a batch for each."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

IDS = torch.randint(3, 50, (4, 8), generator=torch.Generator().manual_seed(0))
MASK = torch.ones_like(IDS)
MASK[0, 5:] = 0
TOKENS = {"input_ids": IDS, "attention_mask": MASK}
SPEECH = {
    "input_features": torch.randn(4, 8, 40, generator=torch.Generator().manual_seed(1)),
    "decoder_input_ids": IDS,
}


def bert_config(**more: Any) -> transformers.BertConfig:
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return transformers.BertConfig(vocab_size=50, **sizes, intermediate_size=32, max_position_embeddings=32, **more)


def bert() -> Any:
    torch.manual_seed(0)
    return transformers.BertModel(bert_config()).eval()


def whisper() -> Any:
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=60, num_mel_bins=8, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_source_positions=20,
        max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return transformers.WhisperForConditionalGeneration(config).eval()


def llama_config(**more: Any) -> transformers.LlamaConfig:
    return transformers.LlamaConfig(
        vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True, max_position_embeddings=32, **more,
    )  # fmt: skip


def llama() -> Any:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(llama_config()).eval()


def gpt2() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=60, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2
    )
    return transformers.GPT2LMHeadModel(config).eval()


CASES: dict[str, tuple[Any, dict[str, Tensor], str]] = {
    "bert": (bert, TOKENS, "last_hidden_state"),
    "whisper": (whisper, SPEECH, "logits"),
    "llama": (llama, TOKENS, "logits"),
    "gpt2": (gpt2, TOKENS, "logits"),
}
"""The network, its batch, and what counts as its output."""
