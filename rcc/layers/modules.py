"""Compute with a `Form` as it is stored: a low-rank part runs as two products, never as U V."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rcc.layers.form import MATRICES, STEPS, Form
from rcc.layers.own_padding import own_padding
from rcc.layers.weight_layout import plain_class, weight_of

_CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONVOLVE_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
_GEOMETRY = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "transposed", "output_padding",
    "groups", "padding_mode", "_reversed_padding_repeated_twice",
)  # fmt: skip
"""All that torch's convolutions keep beside their tensors."""


class FormModule(nn.Module):
    """Holds S, U, V, a and the bias as parameters and the steps as buffers; what is absent is registered as None.

    A layer of a model is not replaced by such a module but turned into one, see `take_over`: whoever refers to the
    layer, in a plain list or an attribute, still runs the layer that was written, and its hooks and whatever else the
    model hung on it stay.
    """

    sparse: nn.Parameter | None
    left: nn.Parameter | None
    right: nn.Parameter | None
    scale: nn.Parameter | None
    bias: nn.Parameter | None
    sparse_step: Tensor | None
    left_step: Tensor | None
    right_step: Tensor | None
    plain_class: type[nn.Module]

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.hold(form)

    @classmethod
    def take_over(cls, module: nn.Module, form: Form) -> Self:
        """Turn `module`, a plain layer, into one of this class that holds `form`: the same object, in place."""
        before = plain_class(module)
        module.__class__ = cls
        assert isinstance(module, cls)
        module.plain_class = before
        module.hold(form)
        return module

    def give_back(self) -> nn.Module:
        """Turn the module into one of its plain class again, without its tensors; the same object."""
        _drop_tensors(self)
        plain = self.plain_class
        self.__dict__.pop("plain_class", None)
        self.__class__ = plain  # type: ignore[assignment]
        return self

    def hold(self, form: Form) -> None:
        """Hold `form` in place of what was held; parameters of `form` are taken as they are."""
        _drop_tensors(self)
        for name in (*MATRICES, "scale", "bias"):
            tensor = getattr(form, name)
            self.register_parameter(name, None if tensor is None else _parameter(tensor))
        for name in STEPS:
            step = getattr(form, name)
            if step is not None and (step.requires_grad or not step.is_contiguous()):
                step = step.detach().contiguous()
            self.register_buffer(name, step)

    @property
    def form(self) -> Form:
        """The stored form; its tensors are this module's own."""
        return Form(
            self.sparse, self.left, self.right, self.scale, self.bias,
            self.sparse_step, self.left_step, self.right_step,
        )  # fmt: skip

    @property
    def weight(self) -> Tensor:
        """The weight this module stands for, in the shape of the plain layer's, composed anew at each call."""
        return weight_of(self, self.form.dense())

    def _matrices(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """S, U and V, each read once: one under a parametrisation is computed anew at every reading."""
        return self.sparse, self.left, self.right

    def _scaled(self, output: Tensor, channel: int) -> Tensor:
        """diag(a) · output + bias, with the output channels at dimension `channel`."""
        shape = [1] * output.dim()
        shape[channel] = -1
        # A row of the weight is a channel of the output, so that scaling the one scales the other.
        if (scale := self.scale) is not None:
            output = output * scale.view(shape)
        return output if self.bias is None else output + self.bias.view(shape)


class FormLinear(FormModule):
    """y = a ⊙ (S x + U (V x)) + b for x of shape (..., in)."""

    plain_class = nn.Linear

    def __init__(self, form: Form) -> None:
        super().__init__(form)
        self.out_features, self.in_features = form.shape

    def forward(self, input: Tensor) -> Tensor:
        sparse, left, right = self._matrices()
        output = None if sparse is None else F.linear(input, sparse)
        if left is not None and right is not None:
            low_rank = F.linear(F.linear(input, right), left)
            output = low_rank if output is None else output + low_rank
        assert output is not None
        return self._scaled(output, -1)


class FormConv(FormModule):
    """The same form for convolutions of one to three dimensions, transposed ones too: V is a convolution to r
    channels, U a pointwise one after it."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    in_channels: int
    transposed: bool
    output_padding: tuple[int, ...]

    def __init__(self, form: Form, like: Any) -> None:
        """Args: like: the convolution, plain or a form, whose geometry this one has."""
        nn.Module.__init__(self)
        self.plain_class = plain_class(like)
        for name in _GEOMETRY:
            if hasattr(like, name):
                setattr(self, name, getattr(like, name))
        self.hold(form)

    def hold(self, form: Form) -> None:
        if self.groups > 1 and form.left is not None:
            raise ValueError("a grouped convolution has no low-rank pair: its weight is block diagonal")
        super().hold(form)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Args: output_size: of a transposed convolution whose stride leaves it open, as torch's takes it."""
        places = len(self.kernel_size)
        padding: Any = self.output_padding
        if output_size is not None:
            own: Any = nn.modules.conv._ConvTransposeNd._output_padding
            padding = own(self, input, output_size, self.stride, self.padding, self.kernel_size, places, self.dilation)
        sparse, left, right = self._matrices()
        output = None if sparse is None else convolved(self, input, sparse, padding)
        if left is not None and right is not None:
            low_rank = convolved(self, input, right, padding)
            ones = (1,) * places
            low_rank = _CONVOLVE[places](low_rank, left.view(*left.shape, *ones))
            output = low_rank if output is None else output + low_rank
        assert output is not None
        return self._scaled(output, -places - 1)


def convolved(like: Any, input: Tensor, matrix: Tensor, output_padding: Any = None) -> Tensor:
    """The convolution of `input` by `matrix` (out, in), without a bias and with the geometry of the convolution `like`,
    the padding of a class of its own included.

    Args:
        output_padding: of a transposed one; None for that of `like`.
    """
    places, kernel = len(like.kernel_size), weight_of(like, matrix)
    if like.transposed:
        more = like.output_padding if output_padding is None else output_padding
        transposed = _CONVOLVE_TRANSPOSED[places]
        return transposed(input, kernel, None, like.stride, like.padding, more, like.groups, like.dilation)
    padding, sides = like.padding, own_padding(like)
    if sides is not None:
        input, padding = F.pad(input, sides), 0
    return _CONVOLVE[places](input, kernel, None, like.stride, padding, like.dilation, like.groups)


class FormEmbedding(FormModule):
    """Row lookup: y = a[i] (S[i] + U[i] V), with (num_embeddings, dim) as (out, in)."""

    plain_class = nn.Embedding
    padding_idx: int | None
    max_norm: float | None
    norm_type: float
    scale_grad_by_freq: bool
    sparse_gradients: bool

    def __init__(self, form: Form, like: nn.Embedding | FormEmbedding) -> None:
        super().__init__(form)
        self.num_embeddings, self.embedding_dim = form.shape
        self.padding_idx, self.max_norm, self.norm_type = like.padding_idx, like.max_norm, like.norm_type
        self.scale_grad_by_freq = like.scale_grad_by_freq
        self.sparse_gradients = like.sparse_gradients if isinstance(like, FormEmbedding) else like.sparse

    @classmethod
    def take_over(cls, module: nn.Module, form: Form) -> Self:
        # nn.Embedding calls an option of its gradients what the form calls S.
        module.__dict__["sparse_gradients"] = module.__dict__.pop("sparse")
        return super().take_over(module, form)

    def give_back(self) -> nn.Module:
        module = super().give_back()
        module.__dict__["sparse"] = module.__dict__.pop("sparse_gradients")
        return module

    def forward(self, input: Tensor) -> Tensor:
        sparse, left, right = self._matrices()
        output = None if sparse is None else F.embedding(input, sparse, self.padding_idx)
        if left is not None and right is not None:
            low_rank = F.embedding(input, left, self.padding_idx) @ right
            output = low_rank if output is None else output + low_rank
        assert output is not None
        if (scale := self.scale) is not None:
            output = output * F.embedding(input, scale[:, None])
        return output


def _drop_tensors(module: nn.Module) -> None:
    """Take away the weight and the bias of a plain layer, or the parts of a form."""
    for name in ("weight", *MATRICES, "scale", "bias", *STEPS):
        module._parameters.pop(name, None)
        module._buffers.pop(name, None)


def _parameter(tensor: Tensor) -> nn.Parameter:
    if isinstance(tensor, nn.Parameter):
        return tensor
    return nn.Parameter(tensor.detach().contiguous(), requires_grad=torch.is_floating_point(tensor))
