"""Classification by a model that gives `logits`: the class with the largest one, among the classes of the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from rcc.data.loading import prepared, readable_fields
from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError, WorkError
from rcc.evaluation.batch_size import AUTO, BatchSize
from rcc.evaluation.classes.metrics import class_measurement, labels_of
from rcc.evaluation.fitting import what_fits
from rcc.layers.modes import evaluating
from rcc.measurement import Measurement
from rcc.models.abilities import Classifier
from rcc.models.adapter import Adapter

LOGITS = "logits"
BY = ("auto", "name", "index")
LEAST_AGREEMENT = 0.5
SHOWN = 5


class ClassificationEvaluator:
    """Top-1 accuracy (primary), top-5 accuracy and mean per-class accuracy, as fractions with standard errors.

    Args:
        batch_size: items in one forward pass, or 'auto': as many as fit, see `rcc.evaluation.batch_size`.
        classes: how classes of the data find theirs in the model: by 'name', by 'index', or 'auto': see
            `class_places`.
    """

    def __init__(self, batch_size: int | str = AUTO, classes: str = "auto") -> None:
        problems = Problems("eval 'classification'")
        with problems.collecting():
            self.sizes = BatchSize(batch_size)
        problems.choice("classes", classes, BY)
        problems.done()
        self.classes = classes

    def check(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Raises:
        UserError: the data has no classes or labels.
        """
        labels_of(split, splits, "classification")

    def evaluate(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement:
        """Classify every item of `split` among `splits.class_names`; classes of the model that the data lacks are
        left out. `details` holds what `class_measurement` has, and how classes were matched.

        Raises:
            UserError: the data has no classes or labels, the model no logits, or its classes are others.
            WorkError: logits are not finite.
        """
        labels = labels_of(split, splits, "classification")
        names = adapter.class_names if isinstance(adapter, Classifier) else ()
        with evaluating(adapter.module):
            logits = self._logits(adapter, split, splits)
            first = next(logits)
            places, matched = class_places(names, splits.class_names, first.shape[1], self.classes)
            scores = (block[:, places] for block in chain([first], logits))
            found = class_measurement(scores, split, splits, labels, of="classifier_")
        note = f"Classes were matched {matched} {self.sizes.note}".strip()
        return replace(found, details={"note": note, **found.details})

    def fit_batches(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Find by this model what `batch_size=auto` comes to."""
        self._size(adapter, split, _fields(adapter, split, splits))

    def _size(self, adapter: Adapter, split: Split, fields: Sequence[str]) -> int:
        few = len(split)
        return self.sizes.of(
            split.noun, adapter, lambda count: adapter.prepare(**split.items(range(min(count, few)), fields))
        )

    def _logits(self, adapter: Adapter, split: Split, splits: Splits) -> Iterator[Tensor]:
        fields = _fields(adapter, split, splits)
        for batch in prepared(adapter, split, self._size(adapter, split, fields), fields=fields):
            with torch.inference_mode():
                outputs = adapter.outputs(batch)
                if LOGITS not in outputs:
                    raise UserError(
                        f"eval 'classification' needs '{LOGITS}', which the model '{adapter.name}' does not give; of"
                        f" {split.noun} it gives {', '.join(sorted(outputs)) or 'nothing'}. {what_fits(adapter)}"
                    )
                logits = outputs[LOGITS].float().cpu()
            if not bool(torch.isfinite(logits).all()):
                raise WorkError("the model's logits hold NaN or infinite values; a weight or an activation overflowed.")
            yield logits


def _fields(adapter: Adapter, split: Split, splits: Splits) -> tuple[str, ...]:
    fields = readable_fields(adapter, split)
    if splits.templates and "texts" not in split.inputs:
        # Texts of such data are prompts made from the labels; a model that read them would be told the class.
        fields = tuple(name for name in fields if name != "texts")
    return fields


def class_places(
    of_model: Sequence[str], of_data: Sequence[str], logits: int, by: str = "auto"
) -> tuple[list[int], str]:
    """The logit of each class of the data, and a sentence on how it was found.

    By name: without regard to case, and any of the names that a model's class has between commas ("tench, Tinca
    tinca"); where several classes of the model have it, the one of the same index. 'auto' goes by name if every class
    is found, else by index if there are as many logits as classes, provided the model has no names or at least half
    of them agree with the data's of the same index.

    Raises:
        UserError: classes of the data that the model does not have; both lists are shown.
    """
    known = len(of_model) == logits
    meanings: dict[str, list[int]] = {}
    for index, written in enumerate(of_model if known else ()):
        for name in {written.casefold().strip(), *(part.casefold().strip() for part in written.split(","))}:
            meanings.setdefault(name, []).append(index)
    found = [meanings.get(name.casefold().strip(), []) for name in of_data]
    places = [each[0] if len(each) == 1 else index if index in each else -1 for index, each in enumerate(found)]
    missing = [name for name, place in zip(of_data, places, strict=True) if place < 0]
    agree = sum(index in each for index, each in enumerate(found))
    if by != "index" and not missing and len(set(places)) == len(places):
        return places, f"by name; the model has {logits} classes and the data {len(of_data)}."
    same_order = by == "auto" and (not known or (logits == len(of_data) and agree >= LEAST_AGREEMENT * logits))
    if by == "index" or same_order:
        if logits == len(of_data):
            named = f"{agree} of {logits} names agree" if known else "the model does not name its classes"
            return list(range(logits)), f"by index; {named}."
        raise UserError(
            f"eval 'classification': the data has {len(of_data)} classes and the model {logits} logits, so that one"
            " cannot be told from the other by its index. Choose data with the model's classes."
        )
    raise UserError(
        f"eval 'classification': {len(missing)} of the data's {len(of_data)} classes are not among the model's"
        f" {logits}: {_shown(missing)}. The data's classes are {_shown(of_data)}; the model's are"
        f" {_shown(of_model) if known else 'not named'}. Choose data with the model's classes, or, if they are the same"
        " in the same order, classes=index."
    )


def _shown(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:SHOWN]) + more
