"""Embed sounds by a model of speech, dense or compressed.

Shapes: N sounds, D dimensions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rcc.engine.encoding import LARGEST, Embeddings, encoded_sounds
from rcc.engine.opening import OpensModel
from rcc.errors import Problems, UserError
from rcc.models.adapter import Adapter
from rcc.models.transformers.whisper import CONTEXTS, POOLS, WhisperAdapter


class AudioEncoder(OpensModel[WhisperAdapter]):
    """Embeds sounds by the encoder of a Whisper; the decoder of a checkpoint is left out.

    >>> encoder = rcc.AudioEncoder("outputs/<date>/<time>/artifact")
    >>> encoder.encode(["a.wav", "b.flac"]).shape
    (2, 384)

    Files are opened at the first call that needs the model.

    Args:
        path: an artifact (a directory or a file), or a checkpoint directory of transformers.
        pool: which positions an embedding is the mean of: those of the sound ('signal'), or those of the padding of its
            window too ('all'). None for what an artifact was made with, else 'signal'.
        context: what a position attends to: the window of 30 s ('full'), or the sound alone ('clip'), which is cheaper
            and another function. None for what an artifact was made with, else 'full'.
        device, dtype, batch_size, verify: as of `OpensModel`.

    Raises:
        UserError: the path holds no model; one that embeds no sounds is refused by name when it is opened.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        pool: str | None = None,
        context: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = LARGEST,
        verify: bool = True,
    ) -> None:
        problems = Problems("AudioEncoder")
        for name, value, choices in (("pool", pool, POOLS), ("context", context, CONTEXTS)):
            if value is not None:
                problems.choice(name, value, choices)
        problems.done()
        super().__init__(path, device=device, dtype=dtype, batch_size=batch_size, verify=verify)
        self._asked = pool, context

    def _taken(self, model: Adapter) -> WhisperAdapter:
        if not isinstance(model, WhisperAdapter):
            raise UserError(
                f"{self.path} holds a model '{model.name}', which reads {', '.join(model.reads[:3])}. AudioEncoder"
                " takes a Whisper."
            )
        pool, context = self._asked
        return WhisperAdapter(model.module, model.extractor, pool or model.pool, context or model.context).eval()

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.model.module.config.d_model)

    @property
    def sampling_rate(self) -> int:
        """The rate in Hz that sounds are resampled to."""
        return self.model.mel.rate

    def encode(self, audio: Any, normalize: bool = True, *, sampling_rate: int | None = None) -> Embeddings:
        """(N, D) float32 embeddings of one sound or several, in order, of length 1 where `normalize`.

        Args:
            audio: paths, bytes of files, or arrays of samples (N,) or (N, channels), floats in [-1, 1] or whole
                numbers. One that is longer than the model's window is cut into windows that are pooled together.
            sampling_rate: of arrays, in Hz; files know theirs.

        Raises:
            UserError: no sound, an item of another kind or that cannot be decoded, an array without a rate, or a sound
                that is empty, not finite or shorter than 25 ms.
        """
        outputs = None if normalize else self.model.projected
        return encoded_sounds(self.model, audio, self.batch_size, outputs, sampling_rate)
