"""SigLIP: transformers' SiglipModel behind the adapter. Source: Zhai et al., "Sigmoid Loss for Language Image
Pre-Training" (2023); the preparation of texts is that of the authors' big_vision."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from tokenizers import Regex, normalizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, SiglipImageProcessorPil, SiglipModel
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from rcc.layers.model import Batch
from rcc.models.transformers.dual import DualEncoder

WITHOUT_PUNCTUATION = ("SiglipTokenizer",)
LOWER_CASE = (*WITHOUT_PUNCTUATION, "GemmaTokenizer", "Siglip2Tokenizer")
"""Published tokenizers whose Python code prepares the texts, by the class that their files name: SigLIP's drops
punctuation and capitals, that of SigLIP 2 capitals."""


class SiglipWrapper(DualEncoder):
    """A SigLIP with its image processor and tokenizer, read from tokenizer.json without sentencepiece.

    Texts are padded to the whole context and nothing is masked, as the model was trained.
    """

    name: ClassVar[str] = "siglip"
    published: ClassVar[str] = "google/siglip-base-patch16-224"
    model_class = SiglipModel
    image_processor_class = SiglipImageProcessorPil
    tokenizer_class = PreTrainedTokenizerFast
    module: SiglipModel

    @classmethod
    def _processors(cls, where: str, config: Any, local: bool) -> tuple[Any, Any]:
        image_processor, tokenizer = super()._processors(where, config, local)
        settings = get_tokenizer_config(where, local_files_only=local)
        kind = str(settings.get("tokenizer_class", "")).removesuffix("Fast")
        if kind in LOWER_CASE:
            _canonicalise(tokenizer, punctuation=kind not in WITHOUT_PUNCTUATION)
        return image_processor, tokenizer

    @staticmethod
    def _role_and_tower(name: str, kind: str) -> tuple[str, str]:
        """Roles attention, mlp, projection, embedding and norm; towers vision and text."""
        tower = "text" if name.startswith("text_model.") else "vision"
        if kind in ("norm", "embedding"):
            return kind, tower
        if kind == "conv":
            return "embedding", tower
        if name == "text_model.head":
            return "projection", tower
        return ("attention" if ".self_attn." in name or ".attention." in name else "mlp"), tower

    def _tokens(self, texts: Sequence[str]) -> Batch:
        length = self.context
        tokens = self.tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        return {"input_ids": tokens["input_ids"]}

    def compute_similarity(self, image_embeds: Tensor, text_embeds: Tensor) -> Tensor:
        """cos · exp(logit_scale) + logit_bias, (N, M), for embeddings (N, D) and (M, D)."""
        return super().compute_similarity(image_embeds, text_embeds) + self.module.logit_bias

    def _pair_loss(self, similarity: Tensor, groups: Tensor | None = None) -> Tensor:
        """Mean over the texts of Σ −log σ(± similarity) over the images, + for pairs that match."""
        if groups is None:
            groups = torch.arange(len(similarity), device=similarity.device)
        signs = (groups[:, None] == groups[None, :]).to(similarity) * 2 - 1
        return -F.logsigmoid(signs * similarity.T).sum(-1).mean()


def _canonicalise(tokenizer: PreTrainedTokenizerFast, punctuation: bool) -> None:
    """Make the tokenizer itself drop capitals and, unless `punctuation` stays, that and double spaces: it is then saved
    with it."""
    backend = tokenizer.backend_tokenizer
    steps: list[Any] = [normalizers.Lowercase()]
    if not punctuation:
        marks = "[" + "".join(f"\\{mark}" for mark in string.punctuation) + "]"
        spaces = normalizers.Replace(Regex(r"\s+"), " ")
        steps += [normalizers.Replace(Regex(marks), ""), spaces, normalizers.Strip()]
    backend.normalizer = normalizers.Sequence([*steps, *([backend.normalizer] if backend.normalizer else [])])
