"""Embed images alone: by the model's own embedding where it gives one, else by what its tower of images pools.

Shapes: N images, D dimensions.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel

from rcc.engine.encoding import IMAGES, LARGEST, Embeddings, Outputs, encoded_images
from rcc.engine.opening import OpensModel
from rcc.errors import Problems, UserError
from rcc.layers.model import Batch
from rcc.models.adapter import Adapter

EMBEDDING, POOLED = "embedding", "pooled"
POOLS = (EMBEDDING, POOLED)


class VisionEncoder(OpensModel[Adapter]):
    """Embeds images by a CLIP, a SigLIP, a BLIP, CLIP's vision tower, a ViT, or any tower of images of transformers.

    >>> encoder = rcc.VisionEncoder("outputs/<date>/<time>/artifact")
    >>> encoder.encode(["a.jpg", "b.jpg"]).shape
    (2, 512)

    Files are opened at the first call that needs the model.

    Args:
        path: an artifact (a directory or a file), or a checkpoint directory of transformers.
        pool: 'embedding', the model's own, projected into the space that images share with texts where it has one;
            'pooled', what its tower of images makes of its states before that: transformers' `pooler_output`, else the
            state of the class token, else the mean over places. None for the first where there is one, else the second.
        device, dtype, batch_size, verify: as of `OpensModel`.

    Raises:
        UserError: the path holds no model; one that cannot embed images so is refused by name when it is opened.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        pool: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = LARGEST,
        verify: bool = True,
    ) -> None:
        problems = Problems("VisionEncoder")
        if pool is not None:
            problems.choice("pool", pool, POOLS)
        problems.done()
        super().__init__(path, device=device, dtype=dtype, batch_size=batch_size, verify=verify)
        self._asked = pool

    def _taken(self, model: Adapter) -> Adapter:
        return model

    @property
    def pool(self) -> str:
        """What an embedding is: 'embedding' or 'pooled'."""
        return self._found[0]

    @property
    def dimensions(self) -> int:
        """D, found on one image."""
        return self._found[1]

    @cached_property
    def _found(self) -> tuple[str, int]:
        return image_pool(self.model, self._asked, str(self.path))

    def encode(self, images: Any, normalize: bool = True) -> Embeddings:
        """(N, D) float32 embeddings of one image or several, in order, of length 1 where `normalize`: paths, bytes of
        files, PIL images, uint8 arrays (H, W, 3), or one array (N, H, W, 3).

        Raises:
            UserError: no image, an item of another kind, or one that cannot be decoded; the model embeds no images, or
                not as it is asked to.
        """
        outputs = image_outputs(self.model, self._asked, normalize, str(self.path))
        return encoded_images(self.model, images, self.batch_size, outputs)


@torch.inference_mode()
def image_pool(model: Adapter, asked: str | None = None, name: str = "") -> tuple[str, int]:
    """What embeddings of images a model gives, 'embedding' or 'pooled', and how many dimensions they have: found on one
    black image.

    Args:
        asked: that which is wanted; None for the first that the model gives.
        name: of the model in messages.

    Raises:
        UserError: see `image_outputs`.
    """
    outputs = image_outputs(model, asked, name=name)
    batch = model.prepare(images=[Image.new("RGB", (32, 32))])
    found = outputs(batch)[IMAGES]
    return asked or (EMBEDDING if _own(model, batch) is not None else POOLED), int(found.shape[1])


def image_outputs(model: Adapter, pool: str | None = None, normalize: bool = True, name: str = "") -> Outputs:
    """The function that gives `image_embeds` (N, D) of a batch by a pool of `POOLS`.

    Raises:
        UserError: the model reads no images. The function raises it where the model has no embedding, or no tower, of
            that kind; the message names what is missing.
    """
    who = f"{name or 'the model'} holds a model '{model.name}'"
    if "images" not in model.reads:
        raise UserError(f"{who}, which reads {', '.join(model.reads[:3]) or 'nothing'} and no images.")

    def embedded(batch: Batch) -> dict[str, Tensor]:
        found = None if pool == POOLED else _own(model, batch)
        if found is None:
            if pool == EMBEDDING:
                raise UserError(
                    f"{who} without a projection of images (visual_projection.weight, as a CLIP has): its states share"
                    f" no space with texts. pool='{POOLED}' takes what its tower pools."
                )
            found = _pooled(_tower(model, who), batch)
        return {IMAGES: F.normalize(found, dim=-1) if normalize else found}

    return embedded


def _own(model: Adapter, batch: Batch) -> Tensor | None:
    """(N, D) the embedding that the model itself gives, not normalised; None where it gives none."""
    given = model.projected(batch)
    if not given and not isinstance(model.module, PreTrainedModel):
        given = model.outputs(batch)
    return given.get(IMAGES)


def _tower(model: Adapter, who: str) -> Any:
    """The part of a model of transformers that makes states of pixels alone."""
    module = model.module
    tower = getattr(module, "vision_model", None) or getattr(module, "base_model", None)
    if not isinstance(module, PreTrainedModel) or getattr(tower, "main_input_name", None) != "pixel_values":
        raise UserError(
            f"{who}, of whose outputs none is an embedding of images: {type(module).__name__} is no architecture of"
            " transformers that makes states of pixels alone."
        )
    return tower


def _pooled(tower: Any, batch: Batch) -> Tensor:
    """(N, D) of the tower's own pooling, else of its class token, else the mean over places."""
    given = tower(pixel_values=batch["pixel_values"])
    pooled, states = getattr(given, "pooler_output", None), given.last_hidden_state
    if pooled is not None:
        return pooled.flatten(1)  # type: ignore[no-any-return]  # of a convolutional network (N, D, 1, 1)
    if states.dim() == 4:
        return states.mean((2, 3))  # type: ignore[no-any-return]
    return states[:, 0] if _has_class_token(tower) else states.mean(1)  # type: ignore[no-any-return]


def _has_class_token(tower: nn.Module) -> bool:
    named = {name.rpartition(".")[2] for name, _ in tower.named_parameters()}
    return bool(named & {"cls_token", "class_embedding", "class_token"})
