"""Modules that compute with a `Form` as it is stored: a low-rank part runs as two products, never as U V."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.layers.form import MATRICES, STEPS, Form


class FormModule(nn.Module):
    """Holds S, U, V, a and the bias as parameters and the steps as buffers; what is absent is registered as None."""

    sparse: nn.Parameter | None
    left: nn.Parameter | None
    right: nn.Parameter | None
    scale: nn.Parameter | None
    bias: nn.Parameter | None
    sparse_step: Tensor | None
    left_step: Tensor | None
    right_step: Tensor | None

    def __init__(self, form: Form) -> None:
        super().__init__()
        for name in (*MATRICES, "scale", "bias"):
            tensor = getattr(form, name)
            self.register_parameter(name, None if tensor is None else _parameter(tensor))
        for name in STEPS:
            step = getattr(form, name)
            self.register_buffer(name, None if step is None else step.detach().contiguous())

    @property
    def form(self) -> Form:
        """The stored form; its tensors are this module's own."""
        return Form(
            self.sparse, self.left, self.right, self.scale, self.bias,
            self.sparse_step, self.left_step, self.right_step,
        )  # fmt: skip

    @property
    def weight(self) -> Tensor:
        """The weight this module stands for, (out, in), composed anew at each call."""
        return self.form.dense()

    def _scaled(self, output: Tensor, channel: int) -> Tensor:
        """diag(a) · output + bias, with the output channels at dimension `channel`."""
        shape = [1] * output.dim()
        shape[channel] = -1
        if self.scale is not None:
            output = output * self.scale.view(shape)
        return output if self.bias is None else output + self.bias.view(shape)


class FormLinear(FormModule):
    """y = a ⊙ (S x + U (V x)) + b for x of shape (..., in)."""

    def __init__(self, form: Form) -> None:
        super().__init__(form)
        self.out_features, self.in_features = form.shape

    def forward(self, input: Tensor) -> Tensor:
        output = None if self.sparse is None else F.linear(input, self.sparse)
        if self.left is not None and self.right is not None:
            low_rank = F.linear(F.linear(input, self.right), self.left)
            output = low_rank if output is None else output + low_rank
        assert output is not None
        return self._scaled(output, -1)


class FormConv(FormModule):
    """The same form for Conv1d and Conv2d: V is a convolution to r channels, U a pointwise one after it."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    in_channels: int

    def __init__(self, form: Form, like: nn.Conv1d | nn.Conv2d | FormConv) -> None:
        super().__init__(form)
        self.kernel_size, self.stride = like.kernel_size, like.stride
        self.padding, self.dilation = like.padding, like.dilation
        self.groups, self.in_channels = like.groups, like.in_channels
        if self.groups > 1 and form.left is not None:
            raise ValueError("a grouped convolution has no low-rank pair: its weight is block diagonal")
        self.out_channels = form.shape[0]

    @property
    def weight(self) -> Tensor:
        return self._kernel(self.form.dense())

    def _kernel(self, matrix: Tensor) -> Tensor:
        return matrix.view(matrix.shape[0], self.in_channels // self.groups, *self.kernel_size)

    def _convolve(self, input: Tensor, matrix: Tensor) -> Tensor:
        convolve = F.conv1d if len(self.kernel_size) == 1 else F.conv2d
        return convolve(  # type: ignore[operator]
            input, self._kernel(matrix), None, self.stride, self.padding, self.dilation, self.groups
        )

    def forward(self, input: Tensor) -> Tensor:
        output = None if self.sparse is None else self._convolve(input, self.sparse)
        if self.left is not None and self.right is not None:
            low_rank = self._convolve(input, self.right)
            pointwise = F.conv1d if len(self.kernel_size) == 1 else F.conv2d
            ones = (1,) * len(self.kernel_size)
            low_rank = pointwise(low_rank, self.left.view(*self.left.shape, *ones))  # type: ignore[operator]
            output = low_rank if output is None else output + low_rank
        assert output is not None
        return self._scaled(output, -len(self.kernel_size) - 1)


class FormEmbedding(FormModule):
    """Row lookup: y = a[i] (S[i] + U[i] V), with (num_embeddings, dim) as (out, in)."""

    padding_idx: int | None

    def __init__(self, form: Form, like: nn.Embedding | FormEmbedding) -> None:
        super().__init__(form)
        self.num_embeddings, self.embedding_dim = form.shape
        self.padding_idx = like.padding_idx

    def forward(self, input: Tensor) -> Tensor:
        output = None if self.sparse is None else F.embedding(input, self.sparse, self.padding_idx)
        if self.left is not None and self.right is not None:
            low_rank = F.embedding(input, self.left, self.padding_idx) @ self.right
            output = low_rank if output is None else output + low_rank
        assert output is not None
        if self.scale is not None:
            output = output * F.embedding(input, self.scale[:, None])
        return output


def _parameter(tensor: Tensor) -> nn.Parameter:
    if isinstance(tensor, nn.Parameter):
        return tensor
    return nn.Parameter(tensor.detach().contiguous(), requires_grad=torch.is_floating_point(tensor))
