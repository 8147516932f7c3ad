"""Builds a CLIP checkpoint directory of the true ViT-B/32 shapes with random weights, without a network.

    python scripts/build_vit_b32.py build/vit_b32
    rcc-run stage=dare+nullu+alpha model=clip model.path=build/vit_b32

The shapes, the vocabulary's size and the special tokens are those of openai/clip-vit-base-patch32; 605 MB in fp32.
It says nothing about quality: it is for memory, time and the paths through the program. With `--spectrum` the
singular values of every weight matrix fall like a power of their rank, as those of trained models do.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer
from transformers.utils.logging import disable_progress_bar

VOCABULARY = 49408
START, END = "<|startoftext|>", "<|endoftext|>"
CONTEXT = 77


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path, help="where to write; must not exist")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--spectrum",
        type=float,
        default=0.0,
        help="exponent of the power law of the singular values, 0.5 say; 0, the default, leaves them as initialised",
    )
    options = parser.parse_args()
    if options.directory.exists():
        parser.error(f"{options.directory} already exists; remove it or name another directory.")
    disable_progress_bar()
    build(options.directory, options.seed, options.spectrum)
    nbytes = sum(file.stat().st_size for file in options.directory.iterdir())
    print(f"{options.directory}: {nbytes:,} bytes")


def build(directory: Path, seed: int = 0, spectrum: float = 0.0) -> None:
    """Write config, weights and processor to `directory`; the same seed gives the same bytes."""
    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    model = CLIPModel(vit_b32_config()).eval()
    if spectrum > 0:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.data = with_power_law(module.weight.data, spectrum)
    model.save_pretrained(directory)
    CLIPProcessor(image_processor=CLIPImageProcessorPil(), tokenizer=tokenizer).save_pretrained(directory)


def vit_b32_config() -> CLIPConfig:
    """The configuration of openai/clip-vit-base-patch32, which is also the library's default."""
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": VOCABULARY - 2,
        "eos_token_id": VOCABULARY - 1,
        "pad_token_id": VOCABULARY - 1,
    }
    vision = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 32,
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=512)


def byte_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level tokenizer with its vocabulary's layout but no merges: one token a byte.

    256 bytes, the same 256 at the end of a word, names for the ids that merges would have, start and end.
    """
    letters = byte_letters()
    names = [*letters, *(f"{letter}</w>" for letter in letters)]
    names += [f"<|unused-{index}|>" for index in range(len(names), VOCABULARY - 2)]
    vocabulary = {name: index for index, name in enumerate([*names, START, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=CONTEXT)


def byte_letters() -> list[str]:
    """A visible letter for every byte, as GPT-2's byte-level encoding has them: those Latin-1 shows stand for
    themselves, the others for the code points from 256 on."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in shown] + [chr(256 + extra) for extra in range(256 - len(shown))]


def with_power_law(weight: Tensor, exponent: float) -> Tensor:
    """A random matrix (out, in) of `weight`'s shape and norm whose singular values fall like rank^-exponent."""
    rank = min(weight.shape)
    left = torch.linalg.qr(torch.randn(weight.shape[0], rank))[0]
    right = torch.linalg.qr(torch.randn(weight.shape[1], rank))[0]
    values = torch.arange(1, rank + 1).pow(-exponent)
    values *= weight.norm() / values.norm()
    return (left * values) @ right.T


if __name__ == "__main__":
    main()
