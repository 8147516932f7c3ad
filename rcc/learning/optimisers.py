"""Build optimisers by name: AdamW, SGD, Adafactor, and Muon for matrices with AdamW for all else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer

OPTIMISERS = ("adamw", "sgd", "adafactor", "muon")


class Optimisers(Optimizer):
    """Several optimisers, each over parameters of its own, as one: their groups, steps and state together."""

    def __init__(self, parts: Iterable[Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """The step of each."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of the parts, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        # A part that loads a state makes new groups; learning rates are set through these.
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def optimiser_for(
    module: nn.Module,
    name: str = "adamw",
    *,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.98),
    momentum: float = 0.9,
) -> Optimizer:
    """The optimiser `name` over the parameters of `module` that are trained. Matrices decay, vectors and scalars
    (norms, biases, the logit scale) do not.

    'muon' takes the matrices that are no embeddings: each step's momentum is made orthogonal (Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon) and scaled to the size of AdamW's steps (Liu et al. 2025,
    arXiv:2502.16982), so that one learning rate serves both.

    Args:
        betas: of AdamW.
        momentum: of SGD and Muon, Nesterov's in both.
    """
    groups = decay_groups(module, weight_decay)

    def adamw(groups: list[dict[str, Any]]) -> Optimizer:
        # On a CPU the fused step rounds otherwise than the plain one, and recorded weights were made by that.
        fused = all(parameter.is_cuda for group in groups for parameter in group["params"])
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=fused or None)

    if name == "muon":
        (decayed, kept) = groups
        tables = embeddings(module)
        matrices = [weight for weight in decayed["params"] if weight.dim() == 2 and id(weight) not in tables]
        chosen = {id(weight) for weight in matrices}
        rest = {**decayed, "params": [weight for weight in decayed["params"] if id(weight) not in chosen]}
        muon = torch.optim.Muon(
            matrices,
            lr=learning_rate,
            weight_decay=weight_decay,
            momentum=momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        return Optimisers([muon, adamw([rest, kept])])
    made: dict[str, Callable[[], Optimizer]] = {
        "adamw": lambda: adamw(groups),
        "sgd": lambda: torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0),
        "adafactor": lambda: torch.optim.Adafactor(groups, lr=learning_rate),
    }
    return made[name]()


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of an optimiser: matrices decay; vectors and scalars (norms, biases, the logit scale) do
    not."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.dim() > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.dim() <= 1], "weight_decay": 0.0},
    ]


def embeddings(module: nn.Module) -> set[int]:
    """The ids of the parameters that are tables of embeddings, whole or in parts, held or not."""
    found = set()
    for each in module.modules():
        kinds = (type(each), getattr(each, "plain_class", None))
        if any(isinstance(kind, type) and issubclass(kind, nn.Embedding) for kind in kinds):
            found |= {id(parameter) for parameter in each.parameters(recurse=False)}
            if parametrize.is_parametrized(each):
                found |= {id(parameter) for parameter in each.parametrizations.parameters()}  # type: ignore[union-attr]
    return found
