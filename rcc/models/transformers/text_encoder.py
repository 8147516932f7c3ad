"""Adapt encoders of sentences (`model=text_encoder`): BERT, MiniLM, DistilBERT, RoBERTa, MPNet and whatever else of
transformers is pooled to one embedding a text, as the files of sentence-transformers beside the weights say.

Shapes: B texts, L tokens, D dimensions.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from rcc.errors import Problems, UserError, unknown
from rcc.layers.gather import gathered
from rcc.layers.model import Batch
from rcc.models.block_marks import mark_blocks
from rcc.models.device import pick_device, pick_dtype
from rcc.models.pooling import POOLINGS
from rcc.models.transformers.checkpoint import HOW_TO_GIVE, load_weights, locate
from rcc.models.transformers.configuration import empty_model
from rcc.models.transformers.contrastive import contrastive_loss
from rcc.models.transformers.general import STATES, TransformersAdapter
from rcc.models.transformers.library import classes_of, config_of
from rcc.models.transformers.processors import Processors, read_processors
from rcc.models.transformers.sentence_files import COSINE, POOLED_BY, SentenceSettings, read_sentence_settings

TEXT, PAIR = "text_embeds", "pair_embeds"
SECOND = "pair_"
"""Begins the names of the inputs of the second texts of a batch of pairs."""
SCALE = 20.0
"""What cosines are multiplied by in the loss, as sentence-transformers does; a temperature of 0.05."""
PURPOSES = {"query": ("query",), "document": ("document", "passage", "corpus")}
"""The names of prompts that texts of a purpose have, the likeliest first."""
SEPARATOR = "+"
COUNTED = 1024
"""Texts whose tokens are counted together."""
HEADS = r"^(cls|lm_head|vocab_transform|vocab_layer_norm|vocab_projector|generator_.*|(\w+\.)?pooler)\."
"""Weights that a checkpoint may hold beside those that states come from: of the task it was first trained for."""


class SentenceEncoder(TransformersAdapter):
    """A transformer without a head, whose states are pooled to `text_embeds` (B, D).

    The loss is contrastive over pairs of texts: those of the fields `texts` and `pairs`; where a batch has texts alone,
    the two halves of each text are the pair.

    Args:
        module: the transformer; it is changed in place.
        processors: with the tokenizer.
        settings: how states become embeddings.
    """

    name: ClassVar[str] = "text_encoder"

    def __init__(self, module: Any, processors: Processors, settings: SentenceSettings) -> None:
        super().__init__(module, processors, max_length=settings.max_length)
        self.settings = settings
        self.reads = ("texts", "pairs")

    @classmethod
    def load(  # type: ignore[override]
        cls,
        path: str | Path | None = None,
        pooling: str | None = None,
        max_length: int | None = None,
        prompt: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = torch.float32,
        gradient_checkpointing: bool = False,
    ) -> Self:
        """Load a checkpoint directory, or a hub name from the local cache or the hub, in evaluation mode.

        Args:
            pooling: names of `POOLINGS`, joined by '+'; None for what the files say, the mean where there are none.
            max_length: most tokens of a text; None for what the files say.
            prompt: the name of the prompt of texts for which nobody names another; None for what the files say.

        Raises:
            UserError: it cannot be found, is no encoder of texts, lacks a weight or has one too many, holds a NaN, is
                pickled, or its files ask for what is not handled.
        """
        place, precision = pick_device(device), pick_dtype(dtype)
        if path is None:
            raise UserError(f"model '{cls.name}' needs a path: a checkpoint directory or a hub name. {HOW_TO_GIVE}.")
        where, local = locate(path)
        config, model_class = _encoder_of(where, local)
        settings = _given(read_sentence_settings(where, local), pooling, max_length, prompt)
        processors = _processors(where, config, local)
        module: Any = load_weights(where, model_class, precision, config, local)
        if gradient_checkpointing:
            mark_blocks(module, f"model '{cls.name}'")
        adapter = cls(module.to(place), processors, settings).eval()
        adapter.notes = tuple(_notes(settings))
        return adapter

    @classmethod
    def skeleton(cls, directory: Path | str) -> Self:
        where, local = locate(directory, weights=False)
        config, model_class = _encoder_of(where, local)
        module = empty_model(where, model_class, config)
        return cls(module, _processors(where, config, local), read_sentence_settings(where, local)).eval()

    @classmethod
    def around(cls, module: Any, directory: Path) -> Self:
        settings = read_sentence_settings(str(directory))
        return cls(module, _processors(str(directory), module.config, True), settings)

    @property
    def longest(self) -> int:
        """Most tokens of a text."""
        return self._longest

    @property
    def prompts(self) -> Mapping[str, str]:
        """What may be put before a text, by name."""
        return self.settings.prompts

    def prompt_for(self, purpose: str) -> str | None:
        """The name of the prompt of texts of a purpose, 'query' or 'document'; None for that of all others."""
        return next((name for name in PURPOSES[purpose] if name in self.prompts), None)

    # Adapter.

    def prepare(  # type: ignore[override]
        self, texts: Any = None, pairs: Any = None, prompt: str | None = None, **fields: Any
    ) -> Batch:
        """The tokens of texts, cut at the most that the model reads, and under names that begin with 'pair_' those of
        the text that goes with each; on the model's device.

        Args:
            prompt: the name of what is put before each text; None for the model's default.

        Raises:
            UserError: no text, an item that is none, or a prompt that the model does not have.
        """
        if texts is None:
            there = ", ".join(name for name, value in {"pairs": pairs, **fields}.items() if value is not None)
            raise UserError(f"the model '{self.name}' reads texts; of the data came {there or 'nothing'}.")
        batch = super().prepare(texts=self._worded(texts, prompt))
        if pairs is not None:
            second = super().prepare(texts=self._worded(pairs, prompt))
            batch |= {f"{SECOND}{name}": tokens for name, tokens in second.items()}
        return batch

    def cut(self, texts: Sequence[str], prompt: str | None = None) -> int:
        """How many of the texts have more tokens than the model reads, and are cut there."""
        worded, found = self._worded(texts, prompt), 0
        for start in range(0, len(worded), COUNTED):
            made = self.processors.tokenizer(worded[start : start + COUNTED], truncation=False, verbose=False)
            found += sum(len(tokens) > self.longest for tokens in made["input_ids"])
        return found

    def outputs(self, batch: Batch, normalise: bool = True) -> dict[str, Tensor]:
        """`text_embeds` (B, D), and `pair_embeds` for a batch of pairs.

        Args:
            normalise: to length 1, where the model does; False leaves them as they are pooled.
        """
        first = {name: each for name, each in batch.items() if not name.startswith(SECOND)}
        found = {TEXT: self._embeddings(first, normalise)}
        if second := {name.removeprefix(SECOND): each for name, each in batch.items() if name.startswith(SECOND)}:
            found[PAIR] = self._embeddings(second, normalise)
        return found

    def loss(self, batch: Batch) -> Tensor:
        """The symmetric contrastive loss of the pairs of a batch: each text is to be nearer to its own counterpart than
        to any other's. In several processes the pairs of all are compared.

        Sources: Henderson et al., arXiv:1705.00652 (negatives of the batch); halves of a text as a pair: Izacard et
        al., arXiv:2112.09118.
        """
        inputs = {name: each for name, each in batch.items() if name in self.takes or name.startswith(SECOND)}
        if not any(name.startswith(SECOND) for name in inputs):
            one, other = _halves(inputs)
            found = {TEXT: self._embeddings(one), PAIR: self._embeddings(other)}
        else:
            found = self.outputs(inputs)
        first, second = (F.normalize(gathered(found[name]), dim=-1) for name in (TEXT, PAIR))
        return contrastive_loss(SCALE * first @ second.T)

    def save_files(self, directory: Path) -> None:
        """Write config.json, the tokenizer's files, and those of `rcc.models.transformers.sentence_files`."""
        self.processors.save(directory, self.module)
        settings = replace(self.settings, max_length=self._longest)
        settings.write(directory, int(self.module.config.get_text_config().hidden_size))

    def _worded(self, texts: Any, prompt: str | None) -> list[str]:
        """The texts as they are tokenised: with their prompt, without spaces at the ends."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise UserError(f"texts must be one or more strings; got {texts!r:.200}.")
        name = self.settings.prompt if prompt is None else prompt
        if name is not None and name not in self.prompts:
            raise UserError(f"model '{self.name}': {unknown('prompt', name, self.prompts)}")
        before = "" if name is None else self.prompts[name]
        worded = [f"{before}{text}".strip() for text in texts]
        return [text.lower() for text in worded] if self.settings.lower_case else worded

    def _embeddings(self, batch: Batch, normalise: bool = True) -> Tensor:
        states = self._found({name: each for name, each in batch.items() if name in self.takes})[STATES]
        mask = batch.get("attention_mask")
        counted = torch.ones(states.shape[:2], device=states.device) if mask is None else mask
        pooled = torch.cat([POOLINGS[way](states, counted) for way in self.settings.pooling], dim=-1)
        return F.normalize(pooled, dim=-1) if normalise and self.settings.normalise else pooled


def _encoder_of(where: str, local: bool) -> tuple[Any, type[PreTrainedModel]]:
    """The config, and the class of the bare model: of a checkpoint of a whole task, without its head.

    Raises:
        UserError: the architecture is no encoder of texts alone.
    """
    config_class, named = classes_of(where, local)
    config = config_of(where, config_class, local)
    bare: Any = named if named.__name__.endswith("Model") else MODEL_MAPPING.get(type(config), None)
    reads = [] if bare is None else list(inspect.signature(bare.forward).parameters)
    if bare is None or "input_ids" not in reads or {"pixel_values", "decoder_input_ids"} & set(reads):
        raise UserError(
            f"'{where}' holds {named.__name__}, which does not make states of texts alone: model=text_encoder takes"
            " BERT and its like. model=auto tells which model= loads it."
        )
    return config, _without_pooler(bare)


def _without_pooler(model_class: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The class with what states do not need left out: BERT's pooler, which no embedding comes from, and heads."""
    ignored = {"_keys_to_ignore_on_load_unexpected": [HEADS], "__module__": model_class.__module__}
    if "add_pooling_layer" not in inspect.signature(model_class.__init__).parameters:
        return type(model_class.__name__, (model_class,), ignored)

    def made(self: Any, config: PretrainedConfig) -> None:
        model_class.__init__(self, config, add_pooling_layer=False)  # type: ignore[call-arg]

    return type(model_class.__name__, (model_class,), {**ignored, "__init__": made})


def _processors(where: str, config: Any, local: bool) -> Processors:
    found = read_processors(where, config, local)
    if found.tokenizer is None:
        raise UserError(
            f"'{where}' has no tokenizer: put tokenizer.json, or the vocabulary's own files, beside config."
        )
    return found


def _given(
    settings: SentenceSettings, pooling: str | None, max_length: int | None, prompt: str | None
) -> SentenceSettings:
    """The settings with what the options say otherwise."""
    problems = Problems("model")
    if pooling is not None:
        ways = tuple(str(pooling).split(SEPARATOR))
        for way in ways:
            problems.choice("pooling", way, POOLINGS)
        settings = replace(settings, pooling=tuple(way for way in POOLED_BY.values() if way in ways))
    if max_length is not None:
        problems.whole("max_length", max_length, 3)
        settings = replace(settings, max_length=max_length)
    if prompt is not None:
        problems.choice("prompt", str(prompt), settings.prompts)
        settings = replace(settings, prompt=prompt)
    problems.done()
    return settings


def _notes(settings: SentenceSettings) -> list[str]:
    """Sentences on what the user should know of how the files were read."""
    found = []
    if settings.assumed:
        found.append(
            "no file of sentence-transformers lies beside the weights: the"
            f" {' and '.join(settings.pooling)} of the tokens, normalised, is assumed to be the embedding;"
            " model.pooling= says otherwise."
        )
    if settings.similarity != COSINE:
        found.append(
            f"its vectors were trained to be compared by '{settings.similarity}'; here they are compared by cosine."
        )
    if settings.prompts and settings.prompt is None:
        names = ", ".join(settings.prompts)
        found.append(
            f"it has the prompts {names}: searches put them before queries and documents; texts of calibration and"
            " training have none unless model.prompt= names one."
        )
    return found


def _halves(batch: Batch) -> tuple[Batch, Batch]:
    """The batch twice, with the attention on the first half of each text's tokens and on the second; the first token,
    from which some models take the embedding, counts in both."""
    tokens = batch["input_ids"]
    mask = batch.get("attention_mask", torch.ones_like(tokens)) != 0
    place = mask.long().cumsum(1)  # of each token among those that count, from 1
    middle = 1 + (mask.sum(1, keepdim=True)) // 2
    first, second = mask & (place <= middle), mask & ((place > middle) | (place == 1))
    return tuple({**batch, "attention_mask": half.to(tokens.dtype)} for half in (first, second))  # type: ignore[return-value]
