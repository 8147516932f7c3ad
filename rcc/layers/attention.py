"""Run multi-head attention whose projections are layers that are called, in place of torch's, which only reads them.

`nn.MultiheadAttention` keeps the projections of queries, keys and values in one tensor (or three) and multiplies with
them and with the weight of `out_proj` inside one function: no layer is called, so that nothing can be seen of its
inputs and nothing but a plain weight can take its place. `open_attention` turns it, in place, into the same attention
whose four projections are layers of its own, with the very same outputs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PROJECTIONS = ("q_proj", "k_proj", "v_proj")


class OpenAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` with the layers `q_proj`, `k_proj`, `v_proj` and `out_proj`; made by `open_attention`.

    Its state dict has the names of torch's as long as the projections are plain layers, and it loads torch's.
    """

    q_proj: nn.Module
    k_proj: nn.Module
    v_proj: nn.Module

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """See `nn.MultiheadAttention.forward`: the same arguments, shapes and results."""
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal is a hint about attn_mask, which is to be given with it")
        batched = query.dim() == 3
        # Projected as they are given, not transposed first: layers that are given one tensor share what is summed of
        # it, and (batch, length, …) is the shape by which padding is known.
        q, k, v = self.q_proj(query), self.k_proj(key), self.v_proj(value)
        if not batched:
            q, k, v = (each.unsqueeze(0) for each in (q, k, v))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            q, k, v = (each.transpose(0, 1) for each in (q, k, v))
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(len(k), -1, -1)], 1)
            v = torch.cat([v, self.bias_v.expand(len(v), -1, -1)], 1)
        q, k, v = (each.unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2) for each in (q, k, v))
        if self.add_zero_attn:
            k, v = (F.pad(each, (0, 0, 0, 1)) for each in (k, v))
        mask = self._mask(attn_mask, key_padding_mask, q, k.shape[2], is_causal and not need_weights)
        causal = is_causal and not need_weights and key_padding_mask is None
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * math.sqrt(1.0 / self.head_dim)) @ k.transpose(-2, -1)
            weights = (scores if mask is None else scores + mask).softmax(-1)
            if dropout:
                weights = F.dropout(weights, dropout)
            mixed = weights @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        output = mixed.transpose(1, 2).flatten(2)
        if batched and not self.batch_first:
            output = output.transpose(0, 1)
        output = self.out_proj(output)
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            output = output.squeeze(0)
            weights = None if weights is None else weights.squeeze(0)
        return output, weights

    def _mask(
        self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, sources: int, hinted: bool
    ) -> Tensor | None:
        """Both masks together, to be added to the scores (B, heads, L, S); None where there is none."""
        found: Tensor | None = None
        if attn_mask is not None and not (hinted and padding is None):
            found = _additive(attn_mask, q)
            # (B · heads, L, S) where each head of each item has a mask of its own.
            found = found.view(len(q), self.num_heads, *found.shape[1:]) if found.dim() == 3 else found[None, None]
        if padding is not None:
            columns = _additive(padding, q)[:, None, None]
            # torch pads a mask for what `add_bias_kv` and `add_zero_attn` append, after the masks that were given.
            found = columns if found is None else found + columns
        if found is not None and found.shape[-1] < sources:
            found = F.pad(found, (0, sources - found.shape[-1]))
        return found

    # What code that reads torch's attention looks for, composed from the layers.

    @property
    def in_proj_weight(self) -> Tensor | None:  # type: ignore[override]
        return torch.cat([self._of(name).weight for name in PROJECTIONS]) if self._qkv_same_embed_dim else None

    @property
    def in_proj_bias(self) -> Tensor | None:  # type: ignore[override]
        biases = [self._of(name).bias for name in PROJECTIONS]
        return None if biases[0] is None else torch.cat(biases)

    @property
    def q_proj_weight(self) -> Tensor | None:  # type: ignore[override]
        return None if self._qkv_same_embed_dim else self._of("q_proj").weight

    @property
    def k_proj_weight(self) -> Tensor | None:  # type: ignore[override]
        return None if self._qkv_same_embed_dim else self._of("k_proj").weight

    @property
    def v_proj_weight(self) -> Tensor | None:  # type: ignore[override]
        return None if self._qkv_same_embed_dim else self._of("v_proj").weight

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Under torch's names while the projections are plain layers; the names of their forms else."""
        found = super().state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)
        if all(type(self._of(name)) is nn.Linear for name in PROJECTIONS):
            parts = [f"{prefix}{name}" for name in PROJECTIONS]
            weights = [found.pop(f"{part}.weight") for part in parts]
            biases = [found.pop(f"{part}.bias", None) for part in parts]
            if self._qkv_same_embed_dim:
                found[f"{prefix}in_proj_weight"] = torch.cat(weights)
            else:
                found |= {f"{part}_weight": weight for part, weight in zip(parts, weights, strict=True)}
            if biases[0] is not None:
                found[f"{prefix}in_proj_bias"] = torch.cat(biases)
        return found

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # What is put in here under a layer's name is loaded by that layer, which comes next.
        for part in ("weight", "bias"):
            fused = state_dict.pop(f"{prefix}in_proj_{part}", None)
            chunks = (None,) * len(PROJECTIONS) if fused is None else fused.chunk(len(PROJECTIONS))
            for name, chunk in zip(PROJECTIONS, chunks, strict=True):
                tensor = state_dict.pop(f"{prefix}{name}_{part}", chunk)
                if tensor is not None:
                    state_dict[f"{prefix}{name}.{part}"] = tensor
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _of(self, name: str) -> Any:
        return self._modules[name]


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as numbers to add: −∞ where a boolean one is true."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, -math.inf)
    return mask.to(like.dtype)


@torch.no_grad()
def open_attention(root: nn.Module) -> None:
    """Turn every `nn.MultiheadAttention` in `root` into an `OpenAttention`, in place: the objects stay.

    Left as they are: subclasses with a forward of their own, and those whose projections are computed by a
    parametrisation or shared with another module.
    """
    holders: dict[int, int] = {}
    for module in root.modules():
        for parameter in module.parameters(recurse=False):
            holders[id(parameter)] = holders.get(id(parameter), 0) + 1
    for module in list(root.modules()):
        if isinstance(module, nn.MultiheadAttention) and type(module).forward is nn.MultiheadAttention.forward:
            own = _own_projections(module)
            if own and all(holders[id(parameter)] == 1 for parameter in own):
                _open(module)


def _own_projections(module: Any) -> list[nn.Parameter]:
    names = ("in_proj_weight",) if module._qkv_same_embed_dim else tuple(f"{name}_weight" for name in PROJECTIONS)
    found = [module._parameters.get(name) for name in (*names, "in_proj_bias")]
    whole = all(each is not None for each in found[:-1])
    return [each for each in found if each is not None] if whole else []


def _open(module: Any) -> None:
    if module._qkv_same_embed_dim:
        weights = module.in_proj_weight.chunk(3)
    else:
        weights = tuple(module._parameters[f"{name}_weight"] for name in PROJECTIONS)
    bias = module.in_proj_bias
    biases = (None, None, None) if bias is None else bias.chunk(3)
    frozen = not weights[0].requires_grad
    out_proj = module._modules.pop("out_proj")
    for name in ("in_proj_weight", "in_proj_bias", *(f"{name}_weight" for name in PROJECTIONS)):
        module._parameters.pop(name, None)
    module.__class__ = OpenAttention
    for name, weight, own_bias in zip(PROJECTIONS, weights, biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=not frozen)
        if own_bias is not None:
            layer.bias = nn.Parameter(own_bias.detach().clone(), requires_grad=not frozen)
        module.add_module(name, layer.train(module.training))
    module.add_module("out_proj", out_proj)
