"""Embeddings of images and texts, each computed once for the weights and the data there are.

What is kept is known by checksums of the model and of the data, so that changed weights, another processor or other
images are never mistaken for those of before. The checksum of a model costs about what encoding four images does
(ViT-B/32), see `benchmarks/evaluation.py`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from rcc.data.loading import prepared
from rcc.data.splits import Split
from rcc.errors import Problems, UserError, WorkError
from rcc.evaluation.batch_size import LARGEST, BatchSize
from rcc.evaluation.embeddings.files import EmbeddingFiles
from rcc.evaluation.embeddings.fingerprint import Fingerprint, Fingerprinter
from rcc.evaluation.fitting import what_fits
from rcc.layers.model import Batch
from rcc.layers.modes import evaluating
from rcc.models.adapter import Adapter

IMAGES, TEXTS = "image_embeds", "text_embeds"


class EmbeddingCache:
    """Normalised embeddings in float32 on the CPU, for any number of models, splits and lists of texts.

    Several evaluators of one run share one cache, and then each image is encoded once. Prepared pixels are kept as
    well: they outlive a change of the weights, and every model with the same processor takes them.

    Args:
        batch_size: images or texts in one forward pass, 1 or more, or 'auto', see `rcc.evaluation.batch_size`.
        megabytes: memory that prepared pixels may take, and as much again for embeddings. A split that takes more is
            prepared anew each time.
        directory: where embeddings are kept from one process to the next; None for nowhere. A file there is used by
            the same versions, device, threads and batch size alone, so that no last bit depends on who wrote it.

    Raises:
        UserError: a number out of its range.
    """

    def __init__(
        self, batch_size: int | str = LARGEST, megabytes: float = 256, directory: str | Path | None = None
    ) -> None:
        problems = Problems("embeddings")
        with problems.collecting():
            self.sizes = BatchSize(batch_size)
        problems.at_least("cache_megabytes", megabytes, 0)
        problems.done()
        self.settings = (batch_size, megabytes, None if directory is None else str(directory))
        self.files = None if directory is None else EmbeddingFiles(Path(directory))
        self._fingerprinter = Fingerprinter()
        self._pixels, self._embeddings = RecentlyUsed(int(megabytes * 1e6)), RecentlyUsed(int(megabytes * 1e6))

    def fingerprint(self, adapter: Adapter) -> Fingerprint:
        """The checksum of the model as it is now, for several calls between which nothing changes it."""
        return self._fingerprinter(adapter)

    def images(self, adapter: Adapter, split: Split, model: Fingerprint | None = None) -> Tensor:
        """(N, D), one embedding for each image of `split`, in order. Not to be written to.

        Args:
            model: the adapter's `fingerprint`, which is computed by default.

        Raises:
            UserError: the model gives no embeddings of images, or an image cannot be read.
            WorkError: embeddings are not finite.
        """
        model = model or self.fingerprint(adapter)
        data = hashlib.sha256(b"".join(split.digests)).hexdigest()
        size = self.fit_images(adapter, split)
        key = f"{IMAGES} {model.checksum} {data}"
        found = self._find(key, model, size)
        if found is None:
            found = _encoded(adapter, self._pixel_batches(adapter, split, f"{model.inputs} {data}", size), IMAGES)
            self._keep(key, model, found, size)
        return found

    def texts(
        self, adapter: Adapter, texts: Sequence[str], model: Fingerprint | None = None, prompt: str | None = None
    ) -> Tensor:
        """(T, D), one embedding for each text, in order. Not to be written to.

        Args:
            prompt: the name of what a model of prompts puts before each text, see `Prompting`.

        A text that occurs several times is encoded once. Texts of similar length share a batch, since each batch is
        padded to its longest; the embeddings are those of any other order but for rounding.

        Args:
            model: the adapter's `fingerprint`, which is computed by default.

        Raises:
            UserError: no text, or the model gives no embeddings of texts.
            WorkError: embeddings are not finite.
        """
        if not texts:
            raise UserError("embeddings: there are no texts to encode.")
        model = model or self.fingerprint(adapter)
        size = self.fit_texts(adapter, texts)
        key = f"{TEXTS} {model.checksum} {hashlib.sha256(repr((tuple(texts), prompt)).encode()).hexdigest()}"
        found = self._find(key, model, size)
        if found is None:
            unique = sorted(set(texts), key=lambda text: (len(text), text))
            place = {text: index for index, text in enumerate(unique)}
            starts = range(0, len(unique), size)
            batches = (tokens(adapter, unique[start : start + size], prompt) for start in starts)
            found = _encoded(adapter, batches, TEXTS)[[place[text] for text in texts]]
            self._keep(key, model, found, size)
        return found

    def fit_images(self, adapter: Adapter, split: Split) -> int:
        """How many images of `split` are encoded at a time; what 'auto' comes to for this model, all others get."""
        few = len(split)
        return self.sizes.of("images", adapter, lambda count: adapter.prepare(images=split.images[: min(count, few)]))

    def fit_texts(self, adapter: Adapter, texts: Sequence[str]) -> int:
        """How many texts are encoded at a time, be all as long as the longest of `texts`."""
        return self.sizes.of("texts", adapter, lambda count: adapter.prepare(texts=[max(texts, key=len)] * count))

    def _find(self, key: str, model: Fingerprint, size: int) -> Tensor | None:
        held = self._embeddings.get(key)
        if held is not None:
            return held[0][""]
        if self.files is None or not model.portable:
            return None
        found = self.files.read(_on_disk(key, size))
        if found is not None:
            self._embeddings.put(key, [{"": found}])
        return found

    def _keep(self, key: str, model: Fingerprint, embeddings: Tensor, size: int) -> None:
        self._embeddings.put(key, [{"": embeddings}])
        if self.files is not None and model.portable:
            self.files.write(_on_disk(key, size), embeddings)

    def _pixel_batches(self, adapter: Adapter, split: Split, key: str, size: int) -> Iterator[Batch]:
        """The split's pixels, batch after batch, kept for the next time while they fit."""
        held = self._pixels.get(key)
        if held is not None:
            yield from held
            return
        batches: list[Batch] | None = []
        for batch in prepared(adapter, split, size, fields=("images",)):
            if batches is not None:
                batches.append(batch)
                if not self._pixels.make_room(nbytes(batches)):
                    batches = None
            yield batch
        # Here and not before: whoever stops half-way leaves no half of a split under the key of the whole.
        if batches is not None:
            self._pixels.put(key, batches)


def _on_disk(key: str, size: int) -> str:
    return f"{key} torch {torch.__version__} threads {torch.get_num_threads()} batches of {size}"


def tokens(adapter: Adapter, texts: Sequence[str], prompt: str | None = None) -> Batch:
    """The model's inputs for texts, with the prompt of that name before each.

    Raises:
        UserError: it reads none.
    """
    try:
        return adapter.prepare(texts=texts, **({} if prompt is None else {"prompt": prompt}))
    except UserError as error:
        raise UserError(f"{error} {what_fits(adapter)}") from error


def _encoded(adapter: Adapter, batches: Iterable[Batch], output: str) -> Tensor:
    """Normalised rows of that output for all the batches, (N, D) float32 on the CPU."""
    with evaluating(adapter.module), torch.inference_mode():
        return torch.cat([_normalised(adapter, batch, output) for batch in batches])


def _normalised(adapter: Adapter, batch: Batch, output: str) -> Tensor:
    lacks = f"this evaluation needs '{output}', which the model '{adapter.name}' does not give"
    try:
        outputs = adapter.outputs(batch)
    except UserError as error:
        raise UserError(f"{lacks}: {error} {what_fits(adapter)}") from error
    if output not in outputs:
        raise UserError(f"{lacks}; its outputs are {', '.join(sorted(outputs)) or 'none'}. {what_fits(adapter)}")
    embeddings = F.normalize(outputs[output].float(), dim=-1).cpu()
    if not bool(torch.isfinite(embeddings).all()):
        raise WorkError(f"the model's {output} hold NaN or infinite values; a weight or an activation overflowed.")
    return embeddings


class RecentlyUsed:
    """Lists of batches by key, `capacity` bytes in all at most; what was used longest ago goes first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.nbytes = 0
        self._held: OrderedDict[str, Sequence[Batch]] = OrderedDict()

    def get(self, key: str) -> Sequence[Batch] | None:
        """The batches put under `key`; None where there are none, or no longer."""
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key]

    def put(self, key: str, batches: Sequence[Batch]) -> None:
        """Keep `batches`, unless they alone take more than there is room for."""
        self.nbytes -= nbytes(self._held.pop(key, ()))
        if self.make_room(size := nbytes(batches)):
            self._held[key] = batches
            self.nbytes += size

    def make_room(self, size: int) -> bool:
        """Let go of what was used longest ago until `size` bytes fit; False, and nothing goes, where they cannot."""
        if size > self.capacity:
            return False
        while self.nbytes + size > self.capacity:
            self.nbytes -= nbytes(self._held.popitem(last=False)[1])
        return True


def nbytes(batches: Sequence[Batch]) -> int:
    """Bytes of all tensors of the batches."""
    return sum(tensor.numel() * tensor.element_size() for batch in batches for tensor in batch.values())
