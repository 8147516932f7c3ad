"""CLIP: transformers' CLIPModel behind the adapter, with the specification's `CLIPWrapper` interface.

Shapes: B images or texts, L tokens, D projected dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

from rcc.errors import UserError
from rcc.layers.units import Unit, find_units
from rcc.models.adapter import Adapter, Batch
from rcc.models.checkpoint import check_architecture, load_weights, locate
from rcc.models.clip_files import load_processor, save_clip_files
from rcc.models.contrastive import contrastive_loss
from rcc.models.device import pick_device, pick_dtype
from rcc.models.images import pictures

DEFAULT_NAME = "openai/clip-vit-base-patch32"
TOKEN_DTYPES = (torch.int64, torch.int32)


class CLIPWrapper(Adapter):
    """A CLIP with its image processor and tokenizer; embeddings are projected to the shared D and
    normalised."""

    name: ClassVar[str] = "clip"
    default_roles: ClassVar[Sequence[str]] = ("attention", "mlp", "projection")
    module: CLIPModel

    def __init__(
        self,
        model_name: str | Path = DEFAULT_NAME,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = torch.float32,
    ) -> None:
        """Load a checkpoint directory, or a hub name from the local cache or the hub, in evaluation mode.

        Raises:
            UserError: it cannot be found or reached, is not a CLIPModel, lacks a weight or has one too many,
                holds a NaN, or is pickled.
        """
        place, precision = pick_device(device), pick_dtype(dtype)
        where, local = locate(model_name)
        check_architecture(where, CLIPModel, local)
        config = CLIPConfig.from_pretrained(where, local_files_only=local)
        image_processor, tokenizer = load_processor(where, config, local)
        module = load_weights(where, CLIPModel, precision, local)
        self._hold(module.to(place), image_processor, tokenizer)  # type: ignore[arg-type]

    @classmethod
    def load(
        cls,
        path: str | Path = DEFAULT_NAME,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = torch.float32,
    ) -> Self:
        """The same as the constructor, by the name that all adapters share."""
        return cls(path, device, dtype)

    @classmethod
    def of(cls, module: CLIPModel, image_processor: CLIPImageProcessorPil, tokenizer: CLIPTokenizer) -> Self:
        """An adapter of a model that is already in memory."""
        wrapper = cls.__new__(cls)
        wrapper._hold(module, image_processor, tokenizer)
        return wrapper

    @classmethod
    def skeleton(cls, directory: Path | str) -> Self:
        """The model of the config.json in `directory` (or of a hub name): parameters on the meta device, buffers
        real, no weight read."""
        from accelerate import init_empty_weights

        where, local = locate(directory, weights=False)
        check_architecture(where, CLIPModel, local)
        config = CLIPConfig.from_pretrained(where, local_files_only=local)
        with init_empty_weights(include_buffers=False):
            module = CLIPModel(config).eval()
        return cls.of(module, *load_processor(where, config, local))

    def _hold(self, module: CLIPModel, image_processor: CLIPImageProcessorPil, tokenizer: CLIPTokenizer) -> None:
        self.module, self.image_processor, self.tokenizer = module, image_processor, tokenizer

    # What the specification calls the parts.

    @property
    def clip_model(self) -> CLIPModel:
        return self.module

    @property
    def vision_encoder(self) -> torch.nn.Module:
        return self.module.vision_model

    @property
    def text_encoder(self) -> torch.nn.Module:
        return self.module.text_model

    @property
    def processor(self) -> CLIPProcessor:
        return CLIPProcessor(image_processor=self.image_processor, tokenizer=self.tokenizer)

    @property
    def dtype(self) -> torch.dtype:
        return self.module.logit_scale.dtype

    @property
    def image_size(self) -> int:
        """Side of the images the model takes, in pixels."""
        return int(self.module.config.vision_config.image_size)  # type: ignore[union-attr, arg-type]

    @property
    def context(self) -> int:
        """Most tokens a text may have, start and end included."""
        return int(self.module.config.text_config.max_position_embeddings)  # type: ignore[union-attr]

    @property
    def temperature(self) -> float:
        """What similarities are divided by: exp(-logit_scale), learned, 0.07 in an untrained model."""
        return float(torch.exp(-self.module.logit_scale.detach()))

    # Adapter.

    def units(self) -> list[Unit]:
        """Roles attention, mlp, projection, embedding and norm; towers vision and text."""
        return find_units(self.module, _role_and_tower)

    def prepare(self, images: Sequence[Any] | None = None, texts: Sequence[str] | None = None) -> Batch:
        """`pixel_values` (B, 3, H, W) for images (PIL or uint8 H × W × 3 arrays, one or several), and
        `input_ids` and `attention_mask` (B, L) for texts, padded to the longest and cut at the model's
        context; on the model's device.

        Raises:
            UserError: neither images nor texts, an empty list, or an image of another kind.
        """
        if images is None and texts is None:
            raise UserError("nothing to prepare: give images, texts, or both.")
        batch: Batch = {}
        if images is not None:
            pixels = self.image_processor(images=pictures(images), return_tensors="pt")["pixel_values"]
            batch["pixel_values"] = pixels.to(self.device, self.dtype)
        if texts is not None:
            texts = [texts] if isinstance(texts, str) else list(texts)
            if not texts or not all(isinstance(text, str) for text in texts):
                raise UserError(f"texts must be one or more strings; got {texts!r}.")
            tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=self.context, return_tensors="pt")
            batch |= {key: tokens[key].to(self.device) for key in ("input_ids", "attention_mask")}
        return batch

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """`image_embeds` and `text_embeds` (B, D), projected and normalised, for the inputs that the batch
        has."""
        embeddings = {}
        if "pixel_values" in batch:
            features = self.module.get_image_features(batch["pixel_values"]).pooler_output
            embeddings["image_embeds"] = F.normalize(features, dim=-1)
        if "input_ids" in batch:
            tokens = {"input_ids": batch["input_ids"], "attention_mask": batch.get("attention_mask")}
            embeddings["text_embeds"] = F.normalize(self.module.get_text_features(**tokens).pooler_output, dim=-1)
        if not embeddings:
            raise UserError(f"a CLIP batch needs pixel_values or input_ids; this one has {sorted(batch)}.")
        return embeddings

    def loss(self, batch: Batch) -> Tensor:
        """The contrastive loss of a batch of image–text pairs.

        With `labels` (B,) in the batch, pairs of one label are all positives of each other. Without, pair i matches
        itself; a caption that repeats counts for all its images even so, because its logits are equal.
        """
        logits = self._paired_logits(self.outputs(batch))
        return contrastive_loss(logits, batch.get("labels"))

    def save_files(self, directory: Path) -> None:
        """Write config.json, preprocessor_config.json, tokenizer.json and tokenizer_config.json: the same
        bytes whatever the model was loaded from and whatever it was used for."""
        save_clip_files(self.module.config, self.image_processor, self.tokenizer, directory)

    # The specification's interface (§3.1).

    def encode_image(self, images: Any) -> Tensor:
        """Normalised embeddings (B, D) of PIL images, uint8 arrays (H × W × 3) or pixels (B, 3, H, W).

        Gradients flow only while the module is in training mode.
        """
        batch = self._pixels(images) if isinstance(images, Tensor) else self.prepare(images=images)
        with torch.set_grad_enabled(self.module.training and torch.is_grad_enabled()):
            return self.outputs(batch)["image_embeds"]

    def encode_text(self, texts: str | Sequence[str] | Tensor) -> Tensor:
        """Normalised embeddings (B, D) of a string, several strings, or token ids (B, L).

        Gradients flow only while the module is in training mode.
        """
        batch = self._tokens(texts) if isinstance(texts, Tensor) else self.prepare(texts=texts)
        with torch.set_grad_enabled(self.module.training and torch.is_grad_enabled()):
            return self.outputs(batch)["text_embeds"]

    def forward(self, images: Any = None, texts: Any = None, return_loss: bool = False) -> dict[str, Tensor]:
        """`image_embeds` and `text_embeds` for what is given; with `return_loss` also `logits_per_image`,
        `logits_per_text` and the contrastive `loss`, as `loss` has it.

        Raises:
            UserError: `return_loss` without as many texts as images.
        """
        output: dict[str, Tensor] = {}
        if images is not None:
            output["image_embeds"] = self.encode_image(images)
        if texts is not None:
            output["text_embeds"] = self.encode_text(texts)
        if return_loss:
            output["logits_per_image"] = self._paired_logits(output)
            output["logits_per_text"] = output["logits_per_image"].T
            output["loss"] = contrastive_loss(output["logits_per_image"])
        return output

    def compute_similarity(self, image_embeds: Tensor, text_embeds: Tensor) -> Tensor:
        """cos · exp(logit_scale), (N, M), for embeddings (N, D) and (M, D), normalised here if need be."""
        cosine = F.normalize(image_embeds, dim=-1) @ F.normalize(text_embeds, dim=-1).T
        return cosine * self.module.logit_scale.exp()

    def _paired_logits(self, embeddings: dict[str, Tensor]) -> Tensor:
        found = {name: len(embedding) for name, embedding in embeddings.items()}
        if len(found) < 2 or found["image_embeds"] != found["text_embeds"]:
            raise UserError(f"the contrastive loss needs as many images as texts; got {found or 'neither'}.")
        return self.compute_similarity(embeddings["image_embeds"], embeddings["text_embeds"])

    def _pixels(self, pixels: Tensor) -> Batch:
        side = self.image_size
        if pixels.dim() != 4 or tuple(pixels.shape[1:]) != (3, side, side) or not torch.is_floating_point(pixels):
            raise UserError(
                f"a pixel tensor must be floating point of shape [B, 3, {side}, {side}], as the image"
                f" processor makes it; got {pixels.dtype} of shape {list(pixels.shape)}."
            )
        return {"pixel_values": pixels.to(self.device, self.dtype)}

    def _tokens(self, tokens: Tensor) -> Batch:
        if tokens.dim() != 2 or tokens.dtype not in TOKEN_DTYPES or not 1 <= tokens.shape[1] <= self.context:
            raise UserError(
                f"a token tensor must hold integers of shape [B, L] with L ≤ {self.context};"
                f" got {tokens.dtype} of shape {list(tokens.shape)}."
            )
        return {"input_ids": tokens.to(self.device)}


def _role_and_tower(name: str, kind: str) -> tuple[str, str]:
    tower = "text" if name.startswith(("text_model.", "text_projection")) else "vision"
    if kind in ("norm", "embedding"):
        return kind, tower
    if kind == "conv":
        return "embedding", tower
    if name in ("visual_projection", "text_projection"):
        return "projection", tower
    return ("attention" if ".self_attn." in name else "mlp"), tower
