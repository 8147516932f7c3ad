"""Run convolutions whose windows do not overlap, such as patch embeddings, as matrix products."""

from __future__ import annotations

from torch import Tensor, nn

from rcc.layers.modules import FormConv
from rcc.layers.own_padding import pads_by_itself

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d | FormConv


def has_patches(module: nn.Module) -> bool:
    """Whether a convolution multiplies each input value once for each output channel, without padding."""
    return (
        isinstance(module, Convolution)
        and not module.transposed
        and tuple(module.stride) == tuple(module.kernel_size)
        and module.padding in ("valid", (0,) * len(module.kernel_size))
        and not pads_by_itself(module)
        and set(module.dilation) == {1}
        and module.groups == 1
    )


class PatchKernel(nn.Module):
    """Cuts (B, C, H, W) into windows, gives `kernel` (B, H', W', C · window) and returns (B, out, H', W').

    The same with one dimension less for (B, C, L). Inputs without the batch dimension work as well.
    """

    def __init__(self, kernel: nn.Module, window: tuple[int, ...]) -> None:
        super().__init__()
        self.kernel, self.window = kernel, tuple(window)

    def forward(self, input: Tensor) -> Tensor:
        dimensions = len(self.window)
        channel = input.dim() - dimensions - 1
        for offset, size in enumerate(self.window, 1):
            input = input.unfold(channel + offset, size, size)
        patches = input.movedim(channel, -dimensions - 1).flatten(-dimensions - 1)
        output: Tensor = self.kernel(patches)
        return output.movedim(-1, channel)
