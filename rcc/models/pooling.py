"""Pool the states of tokens to one vector a text: what sentence encoders give."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def mean_of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """(B, D) means of the states (B, L, D) of the tokens that the mask (B, L) counts."""
    counted = mask[..., None].to(states.dtype)
    return (states * counted).sum(1) / counted.sum(1).clamp(min=1)


def first_token(states: Tensor, mask: Tensor) -> Tensor:
    """(B, D) state of the first token that counts, as BERT's [CLS]: not the padding, if that comes first."""
    return states[torch.arange(len(states), device=states.device), mask.long().argmax(1)]


def max_of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """(B, D) largest values of the states of the tokens that count, dimension by dimension."""
    return states.masked_fill(mask[..., None] == 0, torch.finfo(states.dtype).min).amax(1)


def root_mean_of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """(B, D) sums of the states of the tokens that count, over the square root of their number."""
    counted = mask[..., None].to(states.dtype)
    return (states * counted).sum(1) / counted.sum(1).clamp(min=1).sqrt()


def weighted_mean_of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """(B, D) means of the states of the tokens that count, each weighing as much as its place from 1 on: of a causal
    model later ones have seen more (Muennighoff, arXiv:2202.08904)."""
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device) * (mask != 0)
    weights = places[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


def last_token(states: Tensor, mask: Tensor) -> Tensor:
    """(B, D) state of the last token that counts: of a causal model the only one that has seen the whole text."""
    places = torch.arange(mask.shape[1], device=mask.device) * (mask != 0)
    return states[torch.arange(len(states), device=states.device), places.argmax(1)]


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": mean_of_tokens,
    "first": first_token,
    "last": last_token,
    "max": max_of_tokens,
    "root_mean": root_mean_of_tokens,
    "weighted_mean": weighted_mean_of_tokens,
}
