"""Embed texts alone: by an encoder of sentences, or by the text tower of a model of two.

Shapes: T texts, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial

import numpy as np

from rcc.engine.encoding import Embeddings, encoded_texts
from rcc.engine.opening import OpensModel
from rcc.errors import Problems, UserError
from rcc.models.abilities import Prompting
from rcc.models.adapter import Adapter
from rcc.models.transformers.dual import DualEncoder
from rcc.models.transformers.text_encoder import SentenceEncoder


class TextEncoder(OpensModel[Adapter]):
    """Embeds texts by a BERT, MiniLM, DistilBERT, RoBERTa, MPNet … as sentence-transformers does, or by a CLIP.

    >>> encoder = rcc.TextEncoder("outputs/<date>/<time>/artifact")
    >>> encoder.encode(["a man eats", "the sun is hot"]).shape
    (2, 384)

    Files are opened at the first call that needs the model.

    Args:
        path: an artifact (a directory or a file), or a checkpoint directory of transformers.
        device, dtype, batch_size, verify: as of `OpensModel`.

    Raises:
        UserError: the path holds no model; one that embeds no texts is refused by name when it is opened.
    """

    def _taken(self, model: Adapter) -> Adapter:
        if "texts" not in model.reads:
            raise UserError(
                f"{self.path} holds a model '{model.name}', which reads {' and '.join(model.reads) or 'nothing'} and no"
                " texts. TextEncoder takes an encoder of sentences, or a model with a tower of texts."
            )
        return model

    @property
    def prompts(self) -> Mapping[str, str]:
        """What the model may put before a text, by name; {} where it has none."""
        return self.model.prompts if isinstance(self.model, Prompting) else {}

    @cached_property
    def dimensions(self) -> int:
        """D, found on one text."""
        return int(self.encode("a").shape[1])

    def encode(self, texts: str | Sequence[str], prompt: str | None = None, normalize: bool = True) -> Embeddings:
        """(T, D) embeddings of one text or several, in order, of length 1 where `normalize`, else as they are pooled.

        A text that occurs several times is computed once, and texts of similar length share a batch, which is padded to
        its longest: the embeddings are those of any other order but for rounding. A text of more tokens than the model
        reads is cut there; `cut` counts such.

        Args:
            prompt: the name of what is put before each text, one of `prompts`; None for the model's default.

        Raises:
            UserError: no text, an item that is none, a prompt that the model does not have, or it embeds no texts.
        """
        self._check_prompt(prompt)
        model, outputs = self.model, None
        if not normalize and isinstance(model, DualEncoder):
            outputs = model.projected
        elif not normalize and isinstance(model, SentenceEncoder):
            outputs = partial(model.outputs, normalise=False)
        found = encoded_texts(model, texts, self.batch_size, outputs, prompt)
        if not normalize:
            return found
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        unit: Embeddings = np.divide(found, lengths, out=found, where=lengths > 0)
        return unit

    def cut(self, texts: Sequence[str], prompt: str | None = None) -> int:
        """How many of the texts have more tokens than the model reads.

        Raises:
            UserError: the model does not say how many it reads.
        """
        self._check_prompt(prompt)
        if not isinstance(self.model, SentenceEncoder):
            raise UserError(f"the model '{self.model.name}' does not count tokens; an encoder of sentences does.")
        return self.model.cut(texts, prompt)

    def _check_prompt(self, prompt: str | None) -> None:
        if prompt is not None:
            problems = Problems(f"{self.path}")
            problems.choice("prompt", prompt, self.prompts)
            problems.done()
