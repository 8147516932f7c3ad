"""Check by a weak reference that a tensor is the same, unmodified object."""

from __future__ import annotations

import weakref

from torch import Tensor


class Identity:
    """Tells whether a tensor is the very one given, unchanged since; does not keep it alive."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._version = weakref.ref(tensor), _version(tensor)

    def is_of(self, tensor: Tensor) -> bool:
        return self._tensor() is tensor and self._version == _version(tensor)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
