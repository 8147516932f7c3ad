"""Answer about the model that a pruning stage was last prepared with, in the specification's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rcc.errors import Problems, UserError
from rcc.stages.dare.options import DAREOptions
from rcc.stages.dare.state import PruningState
from rcc.stages.options import ConfiguredStage


class PruningViews(ConfiguredStage[DAREOptions]):
    """Counts, masks and the original weights; and putting these back."""

    def forget(self) -> None:
        super().forget()
        self.current_sparsity = 0.0
        self.current_iteration = 0
        self._prepared: PruningState | None = None

    @property
    def pruning_schedule(self) -> str:
        """How much of the target each step asks for: the option `schedule`."""
        return self.options.schedule

    def get_compression_stats(self) -> dict[str, Any]:
        """Counts, shares of zeros and encoded bytes of the units prepared, in all and by layer."""
        return self._state.totals()

    @torch.no_grad()
    def restore_weights(self, layer_names: Sequence[str] | None = None) -> None:
        """Put the original weights back, bit for bit, in all layers or in those named.

        With a `context.reference` the originals are the dense model's; else what `prepare` found. Restoring
        all also starts the schedule anew.

        Raises:
            UserError: nothing was prepared, or a name that is not among the units.
        """
        state = self._state
        by_name = {unit.name: unit for unit in state.units}
        problems = Problems(self.who)
        for name in layer_names or ():
            problems.choice("layer", name, by_name)
        problems.done()
        for name in by_name if layer_names is None else layer_names:
            state.restore(by_name[name])
        if layer_names is None:
            self.current_iteration = 0
        state.note_counts()
        self.current_sparsity, _ = state.sparsity()

    @property
    def pruning_masks(self) -> dict[str, Tensor]:
        """True where a value is kept, made from the values as they are: by layer, in the shape of its weight, or
        'layer.left' and 'layer.right' where factors are stored."""
        return self._state.kept()

    @property
    def original_weights(self) -> dict[str, Tensor]:
        """The dense weight that `restore_weights` goes back to, in the layer's own shape, by layer."""
        return {unit.name: unit.as_weight(self._state.original(unit).dense()) for unit in self._state.units}

    @property
    def _state(self) -> PruningState:
        if self._prepared is None:
            raise UserError(f"{self.who}: no model yet. Call apply(model, context) or prepare(model) first.")
        return self._prepared
