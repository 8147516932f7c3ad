"""Decompositions of single layers: the truncated SVD, the rank chosen, and the null space it leaves.

These are the specification's methods on one layer, in the plain metric.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from rcc.errors import UserError, nearest
from rcc.layers.form import Form
from rcc.layers.model import Model
from rcc.layers.units import Unit
from rcc.ops.factorise import Rank, Svd, select_rank, svd_of_product, thin_svd
from rcc.ops.subspace import Comparison, compare, complement, row_basis
from rcc.stages.nullu.options import NulluOptions
from rcc.stages.options import ConfiguredStage


class LayerDecompositions(ConfiguredStage[NulluOptions]):
    """Decomposes layers by name under the stage's rule for the rank.

    Attributes:
        original_ranks: min(m, n) of each layer decomposed, and of each that may be in the model.
        selected_ranks: the rank each was truncated to.
        decomposed_layers: truncated SVDs of the layers given to `decompose_layer`; a cascade keeps none.
        null_spaces: the bases that `project_to_null_space` was asked for.
        applied: units whose pair was written into a model; their SVD is computed from it when asked for.
    """

    def forget(self) -> None:
        super().forget()
        self.original_ranks: dict[str, int] = {}
        self.selected_ranks: dict[str, int] = {}
        self.decomposed_layers: dict[str, Svd] = {}
        self.null_spaces: dict[str, Tensor] = {}
        self.applied: dict[str, Unit] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def hold(self, model: Model) -> None:
        self.model = model
        self.original_ranks = {unit.name: min(unit.shape) for unit in self.choose(model)[0] if unit.factorable}

    @property
    def share(self) -> float | None:
        """Share of a weight's parameters that its factors may hold; None where that rule is off."""
        ratio = self.options.rank_reduction_ratio
        return None if ratio is None else 1 - ratio

    def compute_svd_decomposition(self, weight_tensor: Tensor | Form) -> Svd:
        """Thin SVD (U, values, V) of a weight, (out, …) flattened to (out, in), or of a form.

        A form that is a low-rank pair alone is decomposed from its factors; any other from its dense weight.
        """
        form = weight_tensor.folded() if isinstance(weight_tensor, Form) else Form(sparse=weight_tensor.flatten(1))
        if form.sparse is None and form.left is not None and form.right is not None:
            return svd_of_product(form.left, form.right, self.options.precision)
        return thin_svd(form.dense(), self.options.precision)

    def select_optimal_rank(
        self,
        singular_values: Tensor,
        energy_threshold: float | None = None,
        shape: tuple[int, int] | None = None,
    ) -> Rank:
        """The rank that both rules allow, at least 1, with the rule that bound it and the energy it keeps.

        Args:
            singular_values: descending.
            energy_threshold: in place of the stage's own.
            shape: (m, n) of the weight, for the share of parameters; without it energy alone decides.
        """
        energy = self.options.energy_threshold if energy_threshold is None else energy_threshold
        return select_rank(singular_values, shape or (1, 1), energy, None if shape is None else self.share)

    def decompose_layer(self, layer_name: str, weight_tensor: Tensor | Form) -> dict[str, Any]:
        """Decompose and truncate one weight, and keep U, values and V in `decomposed_layers`.

        Returns 'rank', 'bound' (the rule it came from), 'energy_preserved' (share of the squared singular
        values), 'relative_error' (Frobenius) and 'compression_ratio' (1 - values of the factors / values of
        the weight).
        """
        shape = tuple(weight_tensor.shape)
        m, n = shape[0], math.prod(shape[1:])
        svd = self.compute_svd_decomposition(weight_tensor)
        chosen = self.select_optimal_rank(svd.values, shape=(m, n))
        rank = chosen.rank
        # Cloned: a view would keep the whole decomposition alive.
        kept = (svd.left[:, :rank].clone(), svd.values[:rank].clone(), svd.right[:rank].clone())
        self.decomposed_layers[layer_name] = Svd(*kept)
        self.original_ranks[layer_name] = min(m, n)
        self.selected_ranks[layer_name] = rank
        self._shapes[layer_name] = shape
        return {
            "rank": rank,
            "bound": chosen.bound,
            "energy_preserved": chosen.energy,
            "relative_error": math.sqrt(max(0.0, 1 - chosen.energy)),
            "compression_ratio": 1 - rank * (m + n) / (m * n),
        }

    def project_to_null_space(self, layer_name: str) -> Tensor:
        """Orthonormal basis (in - r, in), float64, of the inputs that the truncated layer maps to zero."""
        self.null_spaces[layer_name] = complement(row_basis(self._decomposition(layer_name).right))
        return self.null_spaces[layer_name]

    def reconstruct_weight(self, layer_name: str) -> Tensor:
        """U diag(values) V of a decomposed layer, in the shape of its weight, float64."""
        svd = self._decomposition(layer_name)
        kept = layer_name in self.decomposed_layers
        shape = self._shapes[layer_name] if kept else _weight_shape(self.applied[layer_name])
        return ((svd.left * svd.values) @ svd.right).reshape(shape)

    def analyze_subspace_overlap(self, layer1_name: str, layer2_name: str) -> Comparison:
        """Compare the null spaces of two decomposed layers with equally many inputs.

        Raises:
            UserError: a layer was not decomposed, or the two have different numbers of inputs.
        """
        rights = [row_basis(self._decomposition(name).right) for name in (layer1_name, layer2_name)]
        if rights[0].shape[1] != rights[1].shape[1]:
            raise UserError(
                f"the null spaces of '{layer1_name}' and '{layer2_name}' cannot be compared: they have "
                f"{rights[0].shape[1]} and {rights[1].shape[1]} inputs."
            )
        return compare(complement(rights[0]), complement(rights[1]))

    def _decomposition(self, layer_name: str) -> Svd:
        """What `decompose_layer` kept, or the SVD of the pair that `apply` wrote, computed anew."""
        if layer_name in self.decomposed_layers:
            return self.decomposed_layers[layer_name]
        if layer_name not in self.applied:
            known = {*self.applied, *self.decomposed_layers}
            raise UserError(
                f"layer '{layer_name}' is not decomposed.{nearest(layer_name, known)} "
                f"Decomposed: {', '.join(sorted(known)) or 'none; call apply or decompose_layer first'}."
            )
        return self.compute_svd_decomposition(self.applied[layer_name].read())


def _weight_shape(unit: Unit) -> tuple[int, ...]:
    weight = unit.module.weight
    assert isinstance(weight, Tensor)
    return tuple(weight.shape)
