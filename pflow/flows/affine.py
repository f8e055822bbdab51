r"""`affine`: a Gaussian that carries its location and correlations, with a flow on top for the
rest.

The affine map has no parameters to learn: it is set in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.flows.base import Flow, as_flow

__all__ = ["AffineFlow"]


class AffineFlow(Flow):
    r"""The flow :math:`x = m + S\, T_0^{-1}(z; y)`, :math:`z \sim N(0, I)`, with fixed m and S.

    While the flow :math:`T_0` is the identity, as coupling flows are at first, x has the
    distribution
    :math:`N(m, S S^\top)`.

    Arguments:
        base: the flow T_0, as arguments of `build_flow`, or built; None for the identity, which
            leaves a Gaussian.

    Example:
        >>> shapes = {"model_shape": (2,), "data_shape": (1,)}
        >>> base = {"name": "coupling", **shapes, "depth": 2, "hidden": 8}
        >>> flow = AffineFlow((2,), (1,), base=base)
        >>> mean, covariance = torch.ones(2).double(), 2 * torch.eye(2).double()
        >>> flow.set_gaussian(mean, covariance)
        >>> flow.mean
        tensor([1., 1.])
    """

    mean: Tensor
    root: Tensor
    whitening: Tensor
    log_determinant: Tensor

    def __init__(
        self,
        model_shape: Sequence[int],
        data_shape: Sequence[int],
        base: Mapping[str, Any] | Flow | None = None,
    ) -> None:
        super().__init__(model_shape, data_shape)
        base = None if base is None else as_flow(base)
        size = math.prod(self.model_shape)
        self.base = base
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("root", torch.eye(size))
        self.register_buffer("whitening", torch.eye(size))
        self.register_buffer("log_determinant", torch.zeros(()))
        self.initialised = torch.tensor(True)
        if base is not None:
            base.initialised = torch.tensor(True)

    def set_gaussian(self, mean: Float[Tensor, " size"], root: Float[Tensor, "size size"]) -> None:
        """m and S, any square root of the covariance."""
        root = root.double()
        self.mean.copy_(mean)
        self.root.copy_(root)
        self.whitening.copy_(torch.linalg.inv(root))
        self.log_determinant.copy_(torch.linalg.slogdet(root)[1])

    def forward(
        self, x: Float[Tensor, "batch *model"], y: Float[Tensor, "#batch *data"]
    ) -> tuple[Float[Tensor, "batch *model"], Float[Tensor, " batch"]]:
        white = ((x.flatten(1) - self.mean) @ self.whitening.T).reshape(x.shape)
        if self.base is None:
            return white, -self.log_determinant.expand(len(x))
        z, log_determinant = self.base(white, y)
        return z, log_determinant - self.log_determinant

    def inverse(
        self, z: Float[Tensor, "batch *model"], y: Float[Tensor, "#batch *data"]
    ) -> tuple[Float[Tensor, "batch *model"], Float[Tensor, " batch"]]:
        if self.base is None:
            white, log_determinant = z, torch.zeros_like(z.flatten(1)[:, 0])
        else:
            white, log_determinant = self.base.inverse(z, y)
        x = (self.mean + white.flatten(1) @ self.root.T).reshape(z.shape)
        return x, log_determinant + self.log_determinant

    def initialise(self, x: Tensor, y: Tensor) -> None:
        """Nothing depends on the data."""
