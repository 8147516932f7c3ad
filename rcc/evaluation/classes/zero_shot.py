"""Classify images without training, by their prompts: the class whose prompts are closest to the image.

Convention: each prompt's embedding is normalised, a class is the mean of its prompts, normalised again; the
score is the cosine. Source: Radford et al. (2021), section 3.1.4, prompt ensembling in embedding space. Ties
go to the class that comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from rcc.data.sets.class_lists import class_names as published_names
from rcc.data.sets.class_lists import templates as published_templates
from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError
from rcc.evaluation.batch_size import AUTO
from rcc.evaluation.classes.by_loader import loader_accuracies
from rcc.evaluation.classes.metrics import class_measurement, labels_of
from rcc.evaluation.embeddings.cache import EmbeddingCache, tokens
from rcc.evaluation.embeddings.fingerprint import Fingerprint
from rcc.measurement import Measurement
from rcc.models.abilities import TextEncoder
from rcc.models.adapter import Adapter

BLOCK = 4096  # images scored at a time
PROMPTS = {"imagenet": "imagenet", "cifar10": "cifar", "cifar100": "cifar"}
"""Data sets with published class names, and the name of their templates."""


class ZeroShotEvaluator:
    """Top-1 accuracy (primary), top-5 accuracy and mean per-class accuracy, as fractions with standard errors.

    By hand: `ZeroShotEvaluator(model, "imagenet").evaluate(dataloader)` gives `accuracy` and `top5_accuracy`.

    Args:
        model: for use by hand, embeds images and texts.
        dataset: for use by hand, 'imagenet' (the default), 'cifar10' or 'cifar100', whose class names and templates are
            taken; or a mapping with `dataset_name`, or with `class_names` and `templates`. The rest is for the loader.
        batch_size: images or prompts in one forward pass, or 'auto': as many as fit, see `rcc.evaluation.batch_size`.
        cache_megabytes: memory for prepared pixels, and as much again for embeddings.
        embeddings: directory that keeps embeddings from one run to the next; None for none.
        cache: what several evaluators share; its settings count then, and the three above do not.
    """

    def __init__(
        self,
        model: Any = None,
        dataset: str | Mapping[str, Any] | None = None,
        batch_size: int | str = AUTO,
        cache_megabytes: float = 256,
        embeddings: str | Path | None = None,
        *,
        cache: EmbeddingCache | None = None,
    ) -> None:
        """Raises:
        UserError: an option out of its range, or a model or a data set that cannot be used so.
        """
        self.cache = cache or EmbeddingCache(batch_size, cache_megabytes, embeddings)
        self.model = model
        self.class_names: list[str] = []
        self.class_templates: list[str] = []
        self.text_embeddings: Tensor | None = None
        if model is not None:
            dataset = "imagenet" if dataset is None else dataset
            self._use(model, {"dataset_name": dataset} if isinstance(dataset, str) else dataset)
        elif dataset is not None:
            raise UserError(
                f"eval 'zero_shot': dataset is {dataset}, which goes with a model, by hand. A run takes its class"
                " names and templates from data=: say data=imagenet, or leave the option out."
            )

    def _use(self, model: Any, config: Mapping[str, Any]) -> None:
        if not isinstance(model, TextEncoder):
            raise UserError(
                f"eval 'zero_shot': {type(model).__name__} embeds no texts. Give a model such as rcc.CLIPWrapper."
            )
        names, templates = config.get("class_names"), config.get("templates")
        if names is None or templates is None:
            dataset = str(config.get("dataset_name", "imagenet"))
            problems = Problems("eval 'zero_shot'")
            problems.choice("data set", dataset, PROMPTS)
            problems.done()
            names, templates = names or published_names(dataset), templates or published_templates(PROMPTS[dataset])
        self.class_names, self.class_templates = list(names), list(templates)
        self.text_embeddings = self.compute_text_embeddings(self.model, self.class_names, self.class_templates)

    @property
    def device(self) -> torch.device | None:
        """The device of the model that was given; None where there is none."""
        return None if self.model is None else self.model.device

    def fit_batches(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Find by this model what `batch_size=auto` comes to."""
        self.cache.fit_images(adapter, split)
        self.cache.fit_texts(adapter, prompts(splits.class_names, splits.templates))

    def check(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Raises:
        UserError: the data has no classes, one, or no labels, or the model reads the same text of all classes.
        """
        labels_of(split, splits, "zero_shot")
        refuse_alike(adapter, splits.class_names, splits.templates)

    @overload
    def evaluate(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement: ...

    @overload
    def evaluate(self, adapter: Iterable[Any], split: Sequence[str] | None = None) -> dict[str, float]: ...

    def evaluate(self, adapter: Any, split: Any = None, splits: Splits | None = None) -> Measurement | dict[str, float]:
        """`evaluate(adapter, split, splits)` measures a split; with a model given to the constructor,
        `evaluate(dataloader, class_names)` gives `accuracy` and `top5_accuracy` over pairs of images and labels.

        Raises:
            UserError: as of `loader_accuracies`, or the data has no classes or labels, or the model no embeddings.
            WorkError: the embeddings are not finite.
        """
        if splits is not None:
            return self._measure(adapter, split, splits)
        if self.model is None or self.text_embeddings is None:
            raise UserError(
                "eval 'zero_shot': evaluate(dataloader) needs the model: ZeroShotEvaluator(model, 'imagenet'). With a"
                " split it is evaluate(adapter, split, splits)."
            )
        # The model may have been changed since; its text embeddings are those of now.
        names = self.class_names if split is None else list(split)
        if len(names) == 1:
            raise UserError(
                f"eval 'zero_shot': there is one class, '{names[0]}'. Whatever the model answers is right then; give"
                " two class names or more."
            )
        self.text_embeddings = self.compute_text_embeddings(self.model, names, self.class_templates)
        return loader_accuracies(self.model, adapter, self.text_embeddings)

    def _measure(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement:
        """Classify every image of `split` among `splits.class_names`; see `class_measurement` for what is reported.

        Raises:
            UserError: the data has no classes or labels, or the model no image or no text embeddings.
            WorkError: the embeddings are not finite.
        """
        labels = labels_of(split, splits, "zero_shot")
        model = self.cache.fingerprint(adapter)
        classes = self.compute_text_embeddings(adapter, splits.class_names, splits.templates, model)
        images = self.cache.images(adapter, split, model)
        scores = (block @ classes.T for block in images.split(BLOCK))
        found = class_measurement(scores, split, splits, labels, of="")
        note = self.cache.sizes.note
        return replace(found, details={"note": note, **found.details}) if note else found

    def compute_text_embeddings(
        self,
        adapter: Adapter,
        class_names: Sequence[str],
        templates: Sequence[str],
        model: Fingerprint | None = None,
    ) -> Tensor:
        """One normalised embedding a class, (classes, D), of the weights as they are now, whose fingerprint may be
        given."""
        embeddings = self.cache.texts(adapter, prompts(class_names, templates), model)
        return F.normalize(embeddings.unflatten(0, (len(class_names), len(templates))).mean(1), dim=-1)


def refuse_alike(adapter: Adapter, class_names: Sequence[str], templates: Sequence[str]) -> None:
    """Refuse classes whose prompts are all one text to the model: the first class is then the answer to every image,
    and the share of its images an accuracy that no compression can change.

    What counts is what the tokenizer makes of a prompt, which may know none of the names, or end before them.

    Raises:
        UserError: they are; or no class, no template, or a template without exactly one `{}`.
    """
    prompts(class_names[:2], templates)
    for template in templates:
        for some in (class_names[:2], class_names):  # two that differ are enough, and mostly the first two do
            inputs = tokens(adapter, prompts(some, [template]))
            if any(bool((rows != rows[:1]).any()) for rows in inputs.values()):
                return
    raise UserError(
        f"eval 'zero_shot': the prompts of all {len(class_names)} classes are the same text to the model"
        f" '{adapter.name}': {', '.join(repr(each) for each in prompts(class_names, templates[:1])[:2])}, … So every"
        " image would be of the first class, whatever the model sees. Give classes names that its tokenizer tells"
        " apart, with templates short enough for them, or choose eval=classification."
    )


def prompts(class_names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every template filled with every class name: all templates of the first class, then of the second, ….

    Raises:
        UserError: no class, no template, or a template without exactly one `{}`.
    """
    problems = Problems("prompts")
    problems.check(len(class_names) > 0, "there are no class names.")
    problems.check(len(templates) > 0, "there are no templates; a plain one is 'a photo of a {}'.")
    for template in templates:
        problems.check(
            template.count("{}") == 1, f"the template '{template}' must hold '{{}}' once, for the class name."
        )
    problems.done()
    return [template.replace("{}", name) for name in class_names for template in templates]
