"""Edits of single layers: importance of channels, task vectors, and scaling by alpha.

These are the specification's methods on one layer; `AlphaEditor.apply` is made of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rcc.calibration.gradients import ChannelGradients
from rcc.errors import UserError
from rcc.ops.scale import activation_sensitivity, channel_norms, normalised, scale_channels, to_scale
from rcc.stages.alpha.options import AlphaOptions, check_interpolation
from rcc.stages.options import ConfiguredStage


class ChannelEdits(ConfiguredStage[AlphaOptions]):
    """Importance, task vectors and alphas of layers, by name.

    Attributes:
        alpha_parameters: raw parameter (out,) of each layer; the scale is 2 sigmoid(raw).
        importance_scores: (out,) of each layer, in [0, 1].
        task_vectors: by task, then by layer: fine-tuned minus reference weight.
        interpolated: by layer, what `interpolate_task_vectors` made of them.
    """

    def forget(self) -> None:
        super().forget()
        self.alpha_parameters: dict[str, nn.Parameter] = {}
        self.importance_scores: dict[str, Tensor] = {}
        self.task_vectors: dict[str, dict[str, Tensor]] = {}
        self.interpolated: dict[str, Tensor] = {}

    def compute_importance_scores(
        self,
        layer_name: str,
        weight_tensor: Tensor,
        activations: Tensor | None = None,
        gradients: ChannelGradients | None = None,
    ) -> Tensor:
        """Importance (out,) of each output channel by the stage's metric, over the largest, in [0, 1].

        gradient: 2-norm of the channel's gradient. fisher: its square. taylor: |Σ w g|, or the mean of
        |a · ∂L/∂a| where `activations` (…, out) with a gradient are given. magnitude: 2-norm of the weights;
        also what the others fall back to where there is no gradient at all.

        Args:
            weight_tensor: (out, …); its `.grad` is used where `gradients` are not given.
            gradients: statistics over several batches, from `calibration.gradients`.
        """
        if gradients is None and weight_tensor.is_leaf and weight_tensor.grad is not None:
            gradients = ChannelGradients.of(weight_tensor, weight_tensor.grad)
        if self.options.importance_metric == "taylor" and activations is not None and activations.grad is not None:
            scores = activation_sensitivity(activations, activations.grad)
        elif self.options.importance_metric == "magnitude" or gradients is None:
            scores = channel_norms(weight_tensor)
        else:
            field = {"gradient": "norm", "fisher": "squared", "taylor": "sensitivity"}[self.options.importance_metric]
            scores = getattr(gradients, field)
        self.importance_scores[layer_name] = normalised(scores)
        return self.importance_scores[layer_name]

    def extract_task_vector(
        self, layer_name: str, reference_weight: Tensor, fine_tuned_weight: Tensor, task: str = "task"
    ) -> Tensor:
        """fine-tuned - reference, (out, …), float32: not normalised and, unless asked, not weighted.

        Raises:
            UserError: the two weights differ in shape.
        """
        if reference_weight.shape != fine_tuned_weight.shape:
            raise UserError(
                f"task '{task}': the weight of {layer_name} has shape {tuple(fine_tuned_weight.shape)}; the "
                f"reference has {tuple(reference_weight.shape)}."
            )
        reference = reference_weight.detach().float()
        vector = fine_tuned_weight.detach().to(reference.device, torch.float32) - reference
        if self.options.weight_by_importance and layer_name in self.importance_scores:
            vector = scale_channels(vector, self.importance_scores[layer_name].to(vector.device))
        self.task_vectors.setdefault(task, {})[layer_name] = vector
        return vector

    def interpolate_task_vectors(self, task_weights: Mapping[str, float]) -> dict[str, Tensor]:
        """Σ weight · task vector of each layer that has them, kept in `interpolated` and returned.

        Raises:
            UserError: the weights do not sum to 1, a task is unknown, or a layer lacks one of the tasks.
        """
        check_interpolation(task_weights, self.task_vectors)
        layers = {layer: None for task in task_weights for layer in self.task_vectors[task]}
        for layer in layers:
            lacking = [task for task in task_weights if layer not in self.task_vectors[task]]
            if lacking:
                raise UserError(f"layer {layer} has no task vector of {', '.join(lacking)}.")
            terms = [weight * self.task_vectors[task][layer] for task, weight in task_weights.items()]
            self.interpolated[layer] = torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]
        return self.interpolated

    def apply_alpha_scaling(self, layer_name: str, weight_tensor: Tensor) -> Tensor:
        """2 sigmoid(alpha) · weight + task_strength · τ where the weight is not zero; zeros stay zero.

        A layer without an alpha is not scaled; τ is its interpolated task vector, if it has one.
        """
        result = weight_tensor.detach()
        if layer_name in self.alpha_parameters:
            result = scale_channels(result, to_scale(self.alpha_parameters[layer_name].detach()).to(result.dtype))
        if layer_name in self.interpolated:
            vector = self.interpolated[layer_name].to(result.device).view_as(result)
            moved = (result + self.options.task_strength * vector).to(result.dtype)
            result = torch.where(weight_tensor.detach() != 0, moved, result)
        return result
