"""Models of transformers behind the adapter: what all of them share. Each architecture is a file of its own.

Shapes: B images or texts, L tokens, C × H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from rcc.errors import UserError
from rcc.layers.model import Batch
from rcc.layers.units import Unit, find_units
from rcc.models.adapter import Adapter
from rcc.models.block_marks import mark_blocks
from rcc.models.device import pick_device, pick_dtype
from rcc.models.images import pictures
from rcc.models.transformers.checkpoint import HOW_TO_GIVE, check_architecture, load_weights, locate, quiet
from rcc.models.transformers.configuration import empty_model, read_config
from rcc.models.transformers.pixels import prepared
from rcc.models.transformers.processor_files import load_image_processor, load_tokenizer, save_files

TOKEN_DTYPES = (torch.int64, torch.int32)


class PretrainedAdapter(Adapter):
    """A model of transformers with its image processor and, where it reads texts, its tokenizer.

    A subclass names its classes, its units' roles, and its outputs.
    """

    model_class: ClassVar[type[PreTrainedModel]]
    image_processor_class: ClassVar[type[Any]]
    tokenizer_class: ClassVar[type[PreTrainedTokenizerFast] | None] = None
    published: ClassVar[str] = ""
    """The hub's name of the checkpoint that is loaded where none is named."""

    module: Any
    image_processor: Any
    tokenizer: Any

    def __init__(
        self,
        model_name: str | Path | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = torch.float32,
        gradient_checkpointing: bool = False,
    ) -> None:
        """Load a checkpoint directory, or a hub name from the local cache or the hub, in evaluation mode.

        Args:
            gradient_checkpointing: compute activations again in every backward pass and do not keep them.

        Raises:
            UserError: it cannot be found or reached, is of another architecture, lacks a weight or has one too many,
                holds a NaN, is pickled, or its processor's files are not of this model.
        """
        place, precision = pick_device(device), pick_dtype(dtype)
        if model_name is None and not self.published:
            raise UserError(f"model '{self.name}' needs a path: a checkpoint directory or a hub name. {HOW_TO_GIVE}.")
        where, local = locate(self.published if model_name is None else model_name)
        check_architecture(where, self.model_class, local)
        config = self._config(where, local)
        processors = self._processors(where, config, local)
        module: Any = load_weights(where, self.model_class, precision, config, local)
        if gradient_checkpointing:
            mark_blocks(module, f"model '{self.name}'")
        self._hold(module.to(place), *processors)
        self._read_more(where, local)

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = torch.float32,
        gradient_checkpointing: bool = False,
    ) -> Self:
        """The same as the constructor, by the name that all adapters share."""
        return cls(path, device, dtype, gradient_checkpointing)

    @classmethod
    def of(cls, module: Any, image_processor: Any, tokenizer: Any = None) -> Self:
        """An adapter of a model that is already in memory."""
        wrapper = cls.__new__(cls)
        wrapper._hold(module, image_processor, tokenizer)
        return wrapper

    @classmethod
    def skeleton(cls, directory: Path | str) -> Self:
        """The model of the config.json in `directory` (or of a hub name): parameters on the meta device, buffers
        real, no weight read."""
        where, local = locate(directory, weights=False)
        check_architecture(where, cls.model_class, local)
        config = cls._config(where, local)
        adapter = cls.of(empty_model(where, cls.model_class, config), *cls._processors(where, config, local))
        adapter._read_more(where, local)
        return adapter

    @classmethod
    def _config(cls, where: str, local: bool) -> Any:
        config_class: Any = cls.model_class.config_class
        with quiet():  # default token ids of a sub-config that are then replaced would be warned about
            return read_config(where, config_class, local)

    @classmethod
    def _processors(cls, where: str, config: Any, local: bool) -> tuple[Any, Any]:
        image_processor = load_image_processor(where, cls.image_processor_class, cls._shape(config), local)
        if cls.tokenizer_class is None:
            return image_processor, None
        tokenizer = load_tokenizer(where, cls.tokenizer_class, cls._text_config(config).vocab_size, local)
        return image_processor, tokenizer

    def _hold(self, module: Any, image_processor: Any, tokenizer: Any) -> None:
        self.module, self.image_processor, self.tokenizer = module, image_processor, tokenizer

    # What an architecture may say otherwise.

    def _read_more(self, where: str, local: bool) -> None:
        """Read what a directory of this architecture holds besides weights, config and processor."""

    @staticmethod
    def _role_and_tower(name: str, kind: str) -> tuple[str, str]:
        """The role and the tower of the unit of a module's name and kind."""
        raise NotImplementedError

    @staticmethod
    def _vision_config(config: PretrainedConfig) -> Any:
        return getattr(config, "vision_config", config)

    @staticmethod
    def _text_config(config: PretrainedConfig) -> Any:
        return getattr(config, "text_config", config)

    @classmethod
    def _shape(cls, config: PretrainedConfig) -> tuple[int, int, int]:
        vision = cls._vision_config(config)
        side = vision.image_size
        height, width = (side, side) if isinstance(side, int) else side
        return int(getattr(vision, "num_channels", 3)), int(height), int(width)

    def _tokens(self, texts: Sequence[str]) -> Batch:
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=self.context, return_tensors="pt")
        return {key: tokens[key] for key in ("input_ids", "attention_mask")}

    # Adapter.

    @property
    def dtype(self) -> torch.dtype:
        return next(self.module.parameters()).dtype  # type: ignore[no-any-return]

    @property
    def pixel_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the pixels that the model takes."""
        return self._shape(self.module.config)

    @property
    def image_size(self) -> int:
        """Height of the images the model takes, in pixels."""
        return self.pixel_shape[1]

    @property
    def context(self) -> int:
        """Most tokens a text may have, those that start and end it included."""
        return int(self._text_config(self.module.config).max_position_embeddings)

    def units(self) -> list[Unit]:
        """Every weight the form can hold, with the roles and towers of this architecture."""
        return find_units(self.module, self._role_and_tower)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        """Images, and texts where there is a tokenizer."""
        return ("images",) if self.tokenizer is None else ("images", "texts")

    def prepare(  # type: ignore[override]
        self, images: Sequence[Any] | None = None, texts: Sequence[str] | None = None
    ) -> Batch:
        """`pixel_values` (B, C, H, W) for images (PIL or uint8 H × W × 3 arrays, one or several) and, where the model
        reads texts, `input_ids` and `attention_mask` (B, L) for texts, padded and cut at the model's context; on the
        model's device. A model of images alone passes over texts that come with images.

        Raises:
            UserError: nothing that the model reads, an empty list, or an image of another kind.
        """
        if images is None and texts is None:
            raise UserError("nothing to prepare: give images, texts, or both.")
        batch: Batch = {}
        if images is not None:
            found = pictures(images, self.image_processor.size.get("shortest_edge"))
            batch["pixel_values"] = prepared(self.image_processor, found).to(self.device, self.dtype)
        if texts is not None and self.tokenizer is not None:
            texts = [texts] if isinstance(texts, str) else list(texts)
            if not texts or not all(isinstance(text, str) for text in texts):
                raise UserError(f"texts must be one or more strings; got {texts!r}.")
            batch |= {key: tokens.to(self.device) for key, tokens in self._tokens(texts).items()}
            if "pixel_values" in batch:
                batch |= self._told_apart(batch)
        if not batch:
            raise UserError(f"the model '{self.name}' reads images and no texts: it has no text embeddings.")
        return batch

    def _told_apart(self, batch: Batch) -> Batch:
        """Texts as long as the image has patches, with one more place of padding.

        What is gathered from layers knows by the attention mask's shape which inputs are tokens of texts.
        """
        mask, (_, height, width) = batch.get("attention_mask"), self.pixel_shape
        patch = getattr(self._vision_config(self.module.config), "patch_size", None)
        if mask is None or not isinstance(patch, int) or mask.shape[1] != (height // patch) * (width // patch) + 1:
            return {}
        padded = F.pad(batch["input_ids"], (0, 1), value=self.tokenizer.pad_token_id)
        return {"input_ids": padded, "attention_mask": F.pad(mask, (0, 1))} if mask.shape[1] < self.context else {}

    def save_files(self, directory: Path) -> None:
        """Write config.json and the processor's files: the same bytes whatever the model was loaded from and whatever
        it was used for."""
        architecture = self.model_class.__name__
        save_files(directory, architecture, self.module.config, self.image_processor, self.tokenizer)

    # Tensors in place of raw inputs.

    def _inputs(self, images: Any) -> Batch:
        """`pixel_values` of images, or of pixels (B, C, H, W) as they are."""
        if not isinstance(images, Tensor):
            return self.prepare(images=images)
        shape = self.pixel_shape
        if images.dim() != 4 or tuple(images.shape[1:]) != shape or not torch.is_floating_point(images):
            wanted = ", ".join(str(size) for size in shape)
            raise UserError(
                f"a pixel tensor must be floating point of shape [B, {wanted}], as the image"
                f" processor makes it; got {images.dtype} of shape {list(images.shape)}."
            )
        return {"pixel_values": images.to(self.device, self.dtype)}

    def _token_inputs(self, texts: str | Sequence[str] | Tensor) -> Batch:
        """`input_ids` and `attention_mask` of texts, or `input_ids` (B, L) as they are."""
        if not isinstance(texts, Tensor):
            return self.prepare(texts=texts)
        if texts.dim() != 2 or texts.dtype not in TOKEN_DTYPES or not 1 <= texts.shape[1] <= self.context:
            raise UserError(
                f"a token tensor must hold integers of shape [B, L] with L ≤ {self.context};"
                f" got {texts.dtype} of shape {list(texts.shape)}."
            )
        return {"input_ids": texts.to(self.device)}

    def _learning(self) -> torch.set_grad_enabled:
        """Gradients only while the module is in training mode."""
        return torch.set_grad_enabled(self.module.training and torch.is_grad_enabled())
