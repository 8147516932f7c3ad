"""Hold a model that is served: what it embeds, how large it is, what it kept of the dense model, and its batcher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rcc.artifact.contents import checksum
from rcc.artifact.manifest import is_artifact, read_manifest
from rcc.artifact.size import directory_bytes
from rcc.engine.opening import opened
from rcc.errors import UserError
from rcc.models.abilities import Prompting
from rcc.models.adapter import Adapter
from rcc.models.audio.waveform import Waveform
from rcc.serving.batcher import Batcher
from rcc.serving.requests import AUDIO, IMAGE, TEXT

OUTPUTS = {TEXT: "text_embeds", IMAGE: "image_embeds", AUDIO: "audio_embeds"}
FIELDS = {TEXT: "texts", IMAGE: "images", AUDIO: "audio"}
PROMPTED = ":"
"""Between the kind of an item and its prompt: items of one pass have both in common."""


class ServedModel:
    """A loaded model under a name.

    Args:
        batch: items of one pass; `waiting`: items that may wait for one.

    Raises:
        UserError: what lies at the path cannot be loaded, or embeds nothing.
    """

    def __init__(self, name: str, path: Path, device: str, batch: int, waiting: int) -> None:
        self.name, self.path = name, path
        self.model: Adapter = opened(path, device)
        found = {kind: width for kind in OUTPUTS if (width := _width(self.model, kind)) is not None}
        if not found:
            raise UserError(
                f"{path} holds a model '{self.model.name}', which gives no embeddings of texts, images or sounds."
            )
        self.modalities, self.dimensions = tuple(found), next(iter(found.values()))
        self.prompts = tuple(self.model.prompts) if isinstance(self.model, Prompting) else ()
        self.checksum = checksum(self.model.module)
        self.nbytes = directory_bytes(path)
        self.metrics: Mapping[str, Any] = read_manifest(path).metrics if is_artifact(path) else {}
        self.batcher = Batcher(self._embed, batch, waiting)

    @property
    def card(self) -> dict[str, Any]:
        """What a client is told of the model: OpenAI's fields, and what it is and lost."""
        return {
            "id": self.name,
            "object": "model",
            "owned_by": "rcc",
            "modalities": list(self.modalities),
            "dimensions": self.dimensions,
            "prompts": list(self.prompts),
            "bytes": self.nbytes,
            "checksum": self.checksum,
            "compressed": is_artifact(self.path),
            "metrics": {
                name: value for name, value in self.metrics.items() if isinstance(value, Mapping | int | float)
            },
        }

    @torch.inference_mode()
    def _embed(self, kind: str, values: Sequence[Any]) -> list[tuple[Any, int]]:
        """(embedding, tokens) of each item; an image or a sound counts no tokens.

        Args:
            kind: the modality, and behind a colon the prompt, where there is one.
        """
        kind, _, prompt = kind.partition(PROMPTED)
        batch = self.model.prepare(**{FIELDS[kind]: list(values)}, **({"prompt": prompt} if prompt else {}))
        embeddings = self.model.outputs(batch)[OUTPUTS[kind]].float().cpu().numpy()
        mask = batch.get("attention_mask")
        tokens = [0] * len(values) if mask is None or kind != TEXT else mask.sum(dim=1).tolist()
        return list(zip(embeddings, map(int, tokens), strict=True))


@torch.inference_mode()
def _width(model: Adapter, kind: str) -> int | None:
    """The dimensions of a model's embeddings of one kind of input; None where it gives none."""
    if FIELDS[kind] not in model.reads:
        return None
    try:
        batch = model.prepare(**{FIELDS[kind]: [_probe(kind)]})
        found = model.outputs(batch).get(OUTPUTS[kind])
    except UserError:
        return None
    return None if found is None or found.dim() != 2 else int(found.shape[1])


def _probe(kind: str) -> Any:
    if kind == TEXT:
        return "a"
    if kind == AUDIO:
        return Waveform(np.zeros(1600, np.float32), 16_000)
    from PIL import Image

    return Image.new("RGB", (32, 32))
