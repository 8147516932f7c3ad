"""BLIP that writes captions: transformers' BlipForConditionalGeneration, with the specification's `BLIPWrapper`
interface.

Shapes: B images, P patches with the class token, L tokens, V words of the vocabulary.
Source: Li et al., "BLIP: Bootstrapping Language-Image Pre-training" (2022), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BlipForConditionalGeneration, GenerationConfig

from rcc.errors import Problems, UserError
from rcc.layers.model import Batch
from rcc.layers.shared_head import SharedHead
from rcc.models.transformers.blip_parts import BlipAdapter

IGNORED = -100  # cross-entropy's mark of a place without a target
SETTINGS = {
    "published": {"num_beams": 3, "max_length": 20, "min_length": 5},
    "specification": {"num_beams": 5, "max_length": 50, "min_length": 0},
}
"""Ways to write captions. Published: those of the paper's authors for COCO (configs/caption_coco.yaml of their
repository). The specification's temperature is left out: it changes nothing where nothing is sampled."""


class BLIPWrapper(BlipAdapter):
    """A vision encoder, and a text decoder that looks at its patches by cross-attention.

    A text starts with the decoder's own token in place of [CLS], in training as in generation. The word embeddings are
    also the last layer's weight: one unit, of the role embedding.
    """

    name: ClassVar[str] = "blip"
    published: ClassVar[str] = "Salesforce/blip-image-captioning-base"
    model_class = BlipForConditionalGeneration
    module: BlipForConditionalGeneration

    generation_config: GenerationConfig
    """How captions are written unless a call says otherwise: as published, but for what the checkpoint's own
    generation_config.json sets."""

    def _hold(self, module: Any, image_processor: Any, tokenizer: Any) -> None:
        super()._hold(module, image_processor, tokenizer)
        head, embeddings = module.text_decoder.cls.predictions, module.text_decoder.bert.embeddings
        if getattr(head.decoder, "weight", None) is embeddings.word_embeddings.weight:
            head.decoder = SharedHead(embeddings, "word_embeddings", head.bias)
        self.generation_config = GenerationConfig(**SETTINGS["published"])

    def _read_more(self, where: str, local: bool) -> None:
        try:
            found = GenerationConfig.from_pretrained(where, local_files_only=local)
        except OSError:  # it is not there, and need not be
            return
        own = {name: getattr(found, name) for name in SETTINGS["published"] if getattr(found, name) is not None}
        self.generation_config = GenerationConfig(**{**SETTINGS["published"], **own})

    def save_files(self, directory: Path) -> None:
        """Write config.json, the processor's files and generation_config.json."""
        super().save_files(directory)
        self.generation_config.save_pretrained(directory)

    def _tokens(self, texts: Sequence[str]) -> Batch:
        tokens = super()._tokens(texts)
        tokens["input_ids"][:, 0] = self._text_config(self.module.config).bos_token_id
        return tokens

    # Adapter.

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """`image_embeds` (B, hidden), the class token's last state, normalised; with texts also `logits` (B, L, V).

        Logit l is of the token after token l of the given text (teacher forcing); where there is none, as at the
        padding, logits are zero.
        """
        patches = self._patches(batch)
        outputs = {"image_embeds": F.normalize(patches[:, 0], dim=-1)}
        if "input_ids" in batch:
            logits = self._decoded(patches, batch).logits
            outputs["logits"] = logits.masked_fill(~_predicting(batch)[..., None], 0)
        return outputs

    def projected(self, batch: Batch) -> dict[str, Tensor]:
        """The class token's last state, before it is normalised."""
        return {"image_embeds": self._patches(batch)[:, 0]}

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of each token of the texts given those before it and the image; padding does not count.

        Raises:
            UserError: the batch has no images or no texts.
        """
        return self._loss(self._patches(batch), batch)

    def _loss(self, patches: Tensor, batch: Batch) -> Tensor:
        if "input_ids" not in batch or len(batch["input_ids"]) != len(patches):
            raise UserError(f"the captioning loss needs a caption for each image; the batch has {sorted(batch)}.")
        targets = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
        loss: Tensor = self._decoded(patches, batch, targets).loss
        return loss

    def _decoded(self, patches: Tensor, batch: Batch, targets: Tensor | None = None) -> Any:
        return self.text_decoder(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            encoder_hidden_states=patches,
            labels=targets,
            use_cache=False,
        )

    # The specification's interface (§3.2).

    @property
    def blip_model(self) -> BlipForConditionalGeneration:
        return self.module

    @property
    def text_decoder(self) -> Any:
        return self.module.text_decoder

    def encode_image(self, images: Any) -> Tensor:
        """The states (B, P, hidden) that the decoder looks at, of PIL images, uint8 arrays (H × W × 3) or pixels.

        Gradients flow only while the module is in training mode.
        """
        batch = self._inputs(images)
        with self._learning():
            return self._patches(batch)

    def generate_caption(
        self,
        images: Any,
        max_length: int | None = None,
        num_beams: int | None = None,
        min_length: int | None = None,
        settings: str | None = None,
        prompt: str = "",
    ) -> list[str]:
        """A caption for each image by beam search, without the prompt.

        Args:
            settings: 'published' or 'specification' (5 beams, at most 50 tokens); None for `generation_config`.
            prompt: how every caption begins, as "a picture of".
            max_length, min_length: in tokens, those of the start and the prompt included.
            num_beams: 1 takes the likeliest token at each step.

        Raises:
            UserError: unknown settings, or lengths that the decoder or the prompt does not allow.
        """
        batch = self._inputs(images)
        with torch.no_grad():
            given = {"max_length": max_length, "num_beams": num_beams, "min_length": min_length}
            return self._captions(self._patches(batch), settings, prompt, given)

    def forward(self, images: Any, captions: Sequence[str] | None = None, return_loss: bool = False) -> dict[str, Any]:
        """`image_embeds` (B, P, hidden) and `captions`, those given or else generated; with `return_loss` also `loss`.

        Raises:
            UserError: `return_loss` without a caption for each image.
        """
        batch = self._inputs(images)
        with self._learning():
            output: dict[str, Any] = {"image_embeds": self._patches(batch)}
            if return_loss:
                texts = {} if captions is None else self.prepare(texts=captions)
                output["loss"] = self._loss(output["image_embeds"], texts)
        if captions is None:
            with torch.no_grad():
                captions = self._captions(output["image_embeds"])
        return output | {"captions": [captions] if isinstance(captions, str) else list(captions)}

    def _captions(
        self, patches: Tensor, settings: str | None = None, prompt: str = "", given: dict[str, int | None] | None = None
    ) -> list[str]:
        start = self.prepare(texts=[prompt])["input_ids"][:, :-1]  # without the end
        chosen = self._settings(settings, given or {}, start.shape[1])
        # Every caption starts alike, so that nothing is padded.
        tokens = self.text_decoder.generate(
            input_ids=start.repeat(len(patches), 1),
            attention_mask=torch.ones_like(start).repeat(len(patches), 1),
            eos_token_id=self.tokenizer.sep_token_id,
            pad_token_id=self._text_config(self.module.config).pad_token_id,
            encoder_hidden_states=patches,
            encoder_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long, device=patches.device),
            **chosen,
        )
        texts = self.tokenizer.batch_decode(
            tokens[:, start.shape[1] :], skip_special_tokens=True, clean_up_tokenization_spaces=True
        )
        return [text.strip() for text in texts]

    def _settings(self, settings: str | None, given: dict[str, int | None], started: int) -> dict[str, int]:
        """The settings asked for, after `started` tokens of the start and the prompt."""
        problems = Problems("captions")
        chosen = {name: int(getattr(self.generation_config, name)) for name in SETTINGS["published"]}
        if settings is not None and problems.choice("settings", settings, SETTINGS):
            chosen = dict(SETTINGS[settings])
        chosen |= {name: value for name, value in given.items() if value is not None}
        if "min_length" not in given or given["min_length"] is None:
            chosen["min_length"] = min(chosen["min_length"], chosen["max_length"])
        problems.check(chosen["num_beams"] >= 1, f"num_beams is {chosen['num_beams']}; it must be at least 1.")
        longest = chosen["max_length"]
        problems.check(
            started < longest <= self.context,
            f"max_length is {longest}; it must be over {started} (start and prompt) and at most {self.context}.",
        )
        problems.check(
            0 <= chosen["min_length"] <= longest,
            f"min_length is {chosen['min_length']}; it must lie in [0, {longest}], up to max_length.",
        )
        problems.done()
        return chosen


def _predicting(batch: Batch) -> Tensor:
    """(B, L) where a token of the text comes after this one."""
    counts = batch["attention_mask"] != 0
    return F.pad(counts[:, 1:], (0, 1))
