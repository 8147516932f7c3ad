"""Adapt a network of transformers that has no adapter of its own (`model=transformers`): by its config and its files.

The configuration's own classes are those of the library alone: no code of a checkpoint is run. What is read of the data
follows from the forward and from the processor's files beside the weights; what counts as the output is an option.

Shapes: B items, L tokens, D dimensions, V words of the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig

from rcc.errors import UserError
from rcc.layers.model import Batch
from rcc.models.batches import LABELS, call_by_name, chosen_outputs, input_names, named_outputs
from rcc.models.block_marks import mark_blocks
from rcc.models.device import pick_device, pick_dtype
from rcc.models.own.fields import tensor_of
from rcc.models.own.module import ModuleAdapter
from rcc.models.pooling import POOLINGS
from rcc.models.roles import ROLES, roles_of
from rcc.models.transformers.checkpoint import HOW_TO_GIVE, load_weights, locate
from rcc.models.transformers.classifying import LOGITS, classification_loss
from rcc.models.transformers.configuration import empty_model, has_file, read_file
from rcc.models.transformers.library import classes_of, config_of
from rcc.models.transformers.processors import Processors, read_processors

DESCRIPTION = "outputs.json"
"""In an artifact: what counts as the output, where that was said."""
EMBEDDINGS = ("image_embeds", "text_embeds", "audio_embeds")
STATES = "last_hidden_state"
NO_FIELDS = ("labels", "use_cache", "cache", "past_key_values", "cache_position", "encoder_outputs")
"""Parameters of forwards that are no inputs of items."""
IGNORED = -100  # cross-entropy's mark of a place without a target


class TransformersAdapter(ModuleAdapter):
    """Any model of the library, with its processors; roles as `roles_of` tells them.

    Args:
        module: the model; it is changed in place.
        processors: how images, texts and sounds become its inputs.
        output: the name, or the names, of what counts as the output; None for `logits`, else embeddings, else the
            states.
        pooling: how the states of a text become one embedding, a name of `POOLINGS`; it is then the output, normalised,
            as `text_embeds`. None to leave them as they are.
        max_length: most tokens of a text; None for what the tokenizer and the config say.
    """

    name: ClassVar[str] = "transformers"
    module: Any

    def __init__(
        self,
        module: Any,
        processors: Processors | None = None,
        output: str | Sequence[str] | None = None,
        pooling: str | None = None,
        max_length: int | None = None,
    ) -> None:
        super().__init__(module, roles=roles_of(module), default_roles=ROLES)
        self.takes = input_names(self).every
        self.processors = processors or Processors()
        self.output = (output,) if isinstance(output, str) else tuple(output or ())
        self.pooling, self.max_length = pooling, max_length
        own = (name for name in self.takes if name not in NO_FIELDS and not name.startswith(("output_", "return_")))
        self.reads = (*self.processors.reads(self.takes), *own)

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        output: str | Sequence[str] | None = None,
        pooling: str | None = None,
        max_length: int | None = None,
        check_input: bool = True,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = torch.float32,
        gradient_checkpointing: bool = False,
    ) -> Self:
        """Load a checkpoint directory, or a hub name from the local cache or the hub, in evaluation mode.

        Args:
            output, pooling, max_length: see the class.
            check_input: let jobs try other means and scales of pixels on some images, and warn of better ones.

        Raises:
            UserError: it cannot be found, its architecture is none of the library's, lacks a weight or has one too
                many, holds a NaN, is pickled, or its processor's files cannot be used.
        """
        place, precision = pick_device(device), pick_dtype(dtype)
        if path is None:
            raise UserError(f"model '{cls.name}' needs a path: a checkpoint directory or a hub name. {HOW_TO_GIVE}.")
        where, local = locate(path)
        config_class, model_class = classes_of(where, local)
        config = config_of(where, config_class, local)
        processors = read_processors(where, config, local)
        module: Any = load_weights(where, model_class, precision, config, local)
        if gradient_checkpointing:
            mark_blocks(module, f"model '{cls.name}'")
        adapter = cls(module.to(place), processors, output, _known(pooling), max_length)
        adapter.check_input = check_input
        return adapter.eval()

    @classmethod
    def skeleton(cls, directory: Path | str) -> Self:
        """The model of the config.json in `directory` (or of a hub name): parameters on the meta device, buffers
        real, no weight read."""
        where, local = locate(directory, weights=False)
        config_class, model_class = classes_of(where, local)
        config = config_of(where, config_class, local)
        module = empty_model(where, model_class, config)
        if has_file(where, "generation_config.json") and module.can_generate():
            module.generation_config = GenerationConfig.from_dict(read_file(where, "generation_config.json", local))
        said = _description(Path(where))
        processors = read_processors(where, config, local)
        return cls(module, processors, said.get("output"), _known(said.get("pooling")), said.get("max_length")).eval()

    @classmethod
    def around(cls, module: Any, directory: Path) -> Self:
        """`module` with the files of the artifact in `directory`."""
        said = _description(directory)
        processors = read_processors(str(directory), module.config, True)
        return cls(module, processors, said.get("output"), _known(said.get("pooling")), said.get("max_length"))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the config, in the order of the logits; () where it has none but LABEL_0, LABEL_1, …"""
        names = dict(getattr(self.module.config, "id2label", None) or {})
        found = tuple(str(names[index]) for index in sorted(names))
        return () if all(name == f"LABEL_{index}" for index, name in enumerate(found)) else found

    @property
    def pixel_moments(self) -> tuple[list[float], list[float]] | None:
        return self.processors.moments()

    # Adapter.

    def prepare(self, images: Any = None, texts: Any = None, audio: Any = None, **fields: Any) -> Batch:  # type: ignore[override]
        """What the forward takes of images, texts, sounds (waveforms) and fields under its own names, on the model's
        device. A decoder reads the text that is given, moved by one place (teacher forcing).

        Raises:
            UserError: nothing that it takes, or an item of another kind.
        """
        batch = {name: tensor_of(name, values) for name, values in fields.items() if name in self.takes}
        given = {"images": images, "texts": texts, "audio": audio}
        made = self.processors.inputs(given, self.takes, self._longest, self.module.config)
        batch = {name: tensor for name, tensor in made.items() if name in self.takes} | batch
        if not batch:
            there = ", ".join(name for name, value in {**given, **fields}.items() if value is not None) or "nothing"
            if there == "texts" and "images" in self.reads:
                raise UserError(f"the model '{self.name}' reads images and no texts: it has no text embeddings.")
            raise UserError(
                f"{type(self.module).__name__} takes {', '.join(self.takes[:8])}, and of the data came {there}."
                f" {self.processors.lacking(self.takes)}"
            )
        dtype = next(self.module.parameters()).dtype
        return {name: each.to(self.device, dtype if each.is_floating_point() else None) for name, each in batch.items()}

    @property
    def _longest(self) -> int:
        """Most tokens of a text."""
        config = self.module.config.get_text_config()
        known = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
        limits = [each for each in (self.max_length, *known, self.processors.longest) if isinstance(each, int)]
        return min([*limits, 512] if self.max_length is None else limits)

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """What counts as the output; states and logits (B, L, …) are zero where the attention mask says padding.

        Raises:
            UserError: the forward lacks an input, or gives nothing of the name that is asked for.
        """
        found = self._found(batch)
        mask = batch.get("attention_mask")
        if self.pooling is not None and STATES in found:
            states = found[STATES]
            counted = torch.ones(states.shape[:2], device=states.device) if mask is None else mask
            return {"text_embeds": F.normalize(POOLINGS[self.pooling](states, counted), dim=-1)}
        chosen = chosen_outputs(found, self.output or _counting(found), type(self.module).__name__)
        if mask is None:
            return chosen
        return {
            name: each * mask[(...,) + (None,) * (each.dim() - 2)].to(each.dtype)
            if each.dim() > 1 and each.shape[:2] == mask.shape
            else each
            for name, each in chosen.items()
        }

    def projected(self, batch: Batch) -> dict[str, Tensor]:
        return _of_towers(self.module, batch)

    def _found(self, batch: Batch) -> dict[str, Tensor]:
        """All tensors that the model gives: of its towers apart, where the batch has the inputs of one alone."""
        module = self.module
        if embeddings := self.projected(batch):
            return {name: F.normalize(each, dim=-1) for name, each in embeddings.items()}
        more: dict[str, Any] = {"use_cache": False} if "use_cache" in self.takes else {}
        try:
            return named_outputs(call_by_name(module, {**batch, **more}))
        except (TypeError, ValueError) as error:  # the library's words for a missing input
            raise UserError(
                f"{type(module).__name__} did not take the batch of {', '.join(batch)}: {error}. Its forward takes"
                f" {', '.join(self.takes)}."
            ) from error

    def loss(self, batch: Batch) -> Tensor:
        """Of a classifier the cross-entropy of its labels; of a language model that of each token given those before
        it, padding left out.

        Raises:
            UserError: it gives no logits, or is a classifier and the batch has no labels.
        """
        inputs = {name: each for name, each in batch.items() if name != LABELS}
        if ("input_ids" not in batch and "decoder_input_ids" not in batch) or LABELS in batch:
            return classification_loss(self, batch)
        logits = self._found(inputs).get(LOGITS)
        if logits is None or logits.dim() != 3:
            return classification_loss(self, batch)
        tokens = batch.get("decoder_input_ids", batch.get("input_ids"))
        assert tokens is not None
        mask = batch.get("attention_mask")
        if mask is not None and mask.shape == tokens.shape:
            tokens = tokens.masked_fill(mask == 0, IGNORED)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten(), ignore_index=IGNORED)

    def save_files(self, directory: Path) -> None:
        """Write config.json, the processors' files, generation_config.json and what counts as the output."""
        self.processors.save(directory, self.module)
        if self.module.can_generate():
            (directory / "generation_config.json").write_text(self.module.generation_config.to_json_string())
        said = {"output": list(self.output), "pooling": self.pooling, "max_length": self.max_length}
        if said := {name: value for name, value in said.items() if value}:
            (directory / DESCRIPTION).write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")


def _counting(found: Mapping[str, Tensor]) -> tuple[str, ...]:
    """What counts as the output where nobody said: logits, else embeddings, else the states of the last layer."""
    for names in ((LOGITS,), EMBEDDINGS, (STATES,)):
        if there := tuple(name for name in names if name in found):
            return there
    return tuple(found)


def _of_towers(module: Any, batch: Batch) -> dict[str, Tensor]:
    """The projected embeddings of a model of two towers for the inputs that the batch has; {} for other models."""
    towers = {
        "image_embeds": ("get_image_features", ("pixel_values",)),
        "text_embeds": ("get_text_features", ("input_ids", "attention_mask")),
        "audio_embeds": ("get_audio_features", ("input_features", "input_values")),
    }
    there = {name: each for name, each in towers.items() if hasattr(module, each[0])}
    if "text_embeds" not in there or len(there) < 2 or hasattr(module, "lm_head"):
        return {}
    found = {}
    for name, (method, inputs) in there.items():
        taken = {each: batch[each] for each in inputs if each in batch}
        if taken:
            features = getattr(module, method)(**taken)
            features = features if isinstance(features, Tensor) else features.pooler_output
            found[name] = features
    return found


def _known(pooling: Any) -> str | None:
    if pooling is not None and pooling not in POOLINGS:
        raise UserError(f"model.pooling is {pooling!r}; it must be {', '.join(POOLINGS)} or null.")
    return pooling  # type: ignore[no-any-return]


def _description(directory: Path) -> dict[str, Any]:
    return read_file(str(directory), DESCRIPTION) if (directory / DESCRIPTION).is_file() else {}
