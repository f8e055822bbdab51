"""Fixed tensors that follow the dtype and the device of what they are used with."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Constant"]


class Constant:
    """A tensor kept in float64 and handed out in the dtype and on the device of another one.

    Operators and problems are not `torch.nn.Module`s: they have no weights, and the tensors passed
    to them determine device and precision. Each combination of dtype and device is converted once.

    Arguments:
        value: the tensor, any shape; copied, so that later changes of it have no effect.

    Example:
        >>> weights = Constant(torch.tensor([1.0, 2.0]))
        >>> weights.like(torch.zeros(3, dtype=torch.float32)).dtype
        torch.float32
    """

    def __init__(self, value: Tensor) -> None:
        # A copy made under inference mode could never be used in a gradient afterwards.
        with torch.inference_mode(False):
            self.value = value.detach().to(torch.float64, copy=True)
        self._copies: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """The value in the dtype and on the device of `x`."""
        key = (x.device, x.dtype)
        if key not in self._copies:
            with torch.inference_mode(False):
                self._copies[key] = self.value.to(device=x.device, dtype=x.dtype)
        return self._copies[key]
