"""Measure embeddings by nearest neighbours and a linear probe: how much of the classes of the data lies in them.

The usual two measures of a representation that was not trained on the classes (Alain and Bengio, "Understanding
intermediate layers using linear classifier probes", 2016; Caron et al., DINO, 2021, section 4.1): no weight of the
model is changed, and everything that is fitted is fitted on the training split.

Shapes: N items, R references, D dimensions, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from rcc.data.loading import prepared
from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError, WorkError
from rcc.evaluation.batch_size import AUTO, BatchSize
from rcc.evaluation.classes.metrics import class_measurement, labels_of
from rcc.evaluation.fitting import what_fits
from rcc.layers.modes import evaluating
from rcc.measurement import Measurement
from rcc.measurement.paired import PER_IMAGE
from rcc.models.adapter import Adapter

NAME = "probing"
EMBEDS = "_embeds"
"""How the outputs end that are embeddings."""
NEIGHBOUR, PROBE = "neighbour_", "probe_"
KEPT = ("accuracy", "mean_class_accuracy")
MOST_STEPS, TOLERANCE = 1000, 1e-6
"""Of the logistic regression's fit: its steps, and the largest entry of the gradient at its end."""


class ProbingEvaluator:
    """Accuracy of the nearest reference's class by cosine (primary) and of a logistic regression, as fractions.

    Args:
        batch_size: items in one forward pass, or 'auto': as many as fit, see `rcc.evaluation.batch_size`.
        references: items of the training split that are compared with and fitted on, the first ones, which are
            stratified; None: all.
        regularisation: the weight of the logistic regression's penalty beside its loss summed over the references:
            1 / C of scikit-learn, above 0.
    """

    def __init__(
        self, batch_size: int | str = AUTO, references: int | None = 1000, regularisation: float = 1.0
    ) -> None:
        problems = Problems(f"eval '{NAME}'")
        with problems.collecting():
            self.sizes = BatchSize(batch_size)
        if references is not None:
            problems.whole("references", references, 2)
        problems.positive("regularisation", regularisation)
        problems.done()
        self.references, self.regularisation = references, regularisation

    def check(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Raises:
        UserError: the data has no classes or labels, the model reads none of its inputs, or there is nothing to
            compare with.
        """
        labels_of(split, splits, NAME)
        self._fields(adapter, split)
        known = self._known(splits)
        if known.labels is None or len(set(known.labels.tolist())) < 2:
            raise UserError(
                f"eval '{NAME}' compares with items of the training split, and its {len(known)} references are of"
                f" {len(set([] if known.labels is None else known.labels.tolist()))} classes: two or more are needed."
            )

    def evaluate(self, adapter: Adapter, split: Split, splits: Splits) -> Measurement:
        """Embed the references and every item of `split`, and tell the items' classes by both ways. `details` holds
        what `class_measurement` has of the neighbours, and in `probe` that of the probe.

        Raises:
            UserError: as `check`, or the model gives no embeddings.
            WorkError: embeddings are not finite.
        """
        self.check(adapter, split, splits)
        labels, known = labels_of(split, splits, NAME), self._known(splits)
        with evaluating(adapter.module):
            references, items = (self._embeddings(adapter, each) for each in (known, split))
        of_known = labels_of(known, splits, NAME)
        classes = len(splits.class_names)
        near = nearest_of_each_class(items, references, of_known, classes)
        probed = linear_probe(items, references, of_known, classes, self.regularisation)
        first = class_measurement([near], split, splits, labels, of=NEIGHBOUR)
        second = class_measurement([probed], split, splits, labels, of=PROBE)
        note = f"Compared with {len(known)} items of the training split. {self.sizes.note}".strip()
        per_item = {**first.details[PER_IMAGE], **second.details[PER_IMAGE]}
        details = {
            "note": note,
            **first.details,
            PER_IMAGE: per_item,
            "confusions_of_probe": second.details["confusions"],
        }
        metrics = tuple(
            measured[f"{of}{kind}"] for kind in KEPT for measured, of in ((first, NEIGHBOUR), (second, PROBE))
        )
        return replace(first, metrics=metrics, details=details)

    def fit_batches(self, adapter: Adapter, split: Split, splits: Splits) -> None:
        """Find by this model what `batch_size=auto` comes to."""
        self._size(adapter, split)

    def _known(self, splits: Splits) -> Split:
        if not len(splits.train):
            raise UserError(
                f"eval '{NAME}' compares with items of the training split, which is empty: leave some to it by"
                " a smaller data.test, data.selection or data.calibration."
            )
        count = len(splits.train) if self.references is None else min(self.references, len(splits.train))
        return splits.train.take(count)

    def _fields(self, adapter: Adapter, split: Split) -> tuple[str, ...]:
        """What is read of an item: its inputs, and nothing that describes it."""
        found = tuple(name for name in adapter.reads if name in split.inputs)
        if not found:
            raise UserError(
                f"the model '{adapter.name}' reads {' and '.join(adapter.reads)}, and the items of the data are"
                f" {' and '.join(split.inputs)}. {what_fits(adapter)}"
            )
        return found

    def _size(self, adapter: Adapter, split: Split) -> int:
        fields, few = self._fields(adapter, split), len(split)
        return self.sizes.of(
            split.noun, adapter, lambda count: adapter.prepare(**split.items(range(min(count, few)), fields))
        )

    def _embeddings(self, adapter: Adapter, split: Split) -> Tensor:
        """(N, D) float32 of length 1."""
        return torch.cat(list(self._batches(adapter, split)))

    def _batches(self, adapter: Adapter, split: Split) -> Iterator[Tensor]:
        for batch in prepared(adapter, split, self._size(adapter, split), fields=self._fields(adapter, split)):
            with torch.inference_mode():
                outputs = adapter.outputs(batch)
            found = [tensor for name, tensor in outputs.items() if name.endswith(EMBEDS) and tensor.dim() == 2]
            if not found:
                raise UserError(
                    f"eval '{NAME}' needs embeddings, which the model '{adapter.name}' does not give; of {split.noun}"
                    f" it gives {', '.join(sorted(outputs)) or 'nothing'}. {what_fits(adapter)}"
                )
            embeddings = found[0].float().cpu()
            if not bool(torch.isfinite(embeddings).all()):
                raise WorkError("embeddings hold NaN or infinite values; a weight or an activation overflowed.")
            yield F.normalize(embeddings, dim=1)


def nearest_of_each_class(items: Tensor, references: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(N, C) cosine of each item to the nearest reference of each class, −∞ of a class without any; the largest of a
    row is that of the nearest neighbour."""
    similarity = items @ references.T
    found = torch.full((len(items), classes), -torch.inf)
    for label in labels.unique().tolist():
        found[:, label] = similarity[:, labels == label].amax(1)
    return found


def linear_probe(
    items: Tensor, references: Tensor, labels: Tensor, classes: int, regularisation: float = 1.0
) -> Tensor:
    """(N, C) log-probabilities by a multinomial logistic regression, −∞ of a class without a reference.

    Dimensions are centred and scaled to unit variance over the references first, as the penalty needs it.
    """
    from sklearn.linear_model import LogisticRegression  # late: it takes a second to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=1 / regularisation, tol=TOLERANCE, max_iter=MOST_STEPS)
    )
    model.fit(references.double().numpy(), labels.numpy())
    found = torch.full((len(items), classes), -torch.inf, dtype=torch.float64)
    found[:, torch.from_numpy(model.classes_)] = torch.from_numpy(model.predict_log_proba(items.double().numpy()))
    return found
