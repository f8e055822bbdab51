"""A flow that sees the logarithm of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pflow.errors import PflowError
from pflow.flows.base import Flow, as_flow

__all__ = ["LogData"]


class LogData(Flow):
    r"""The map :math:`z = T(x; \log y)` of a conditional flow T, for positive data.

    Arguments:
        model_shape: shape of x.
        data_shape: shape of y.
        base: T, as arguments of `build_flow`, or built.

    Raises:
        PflowError: whenever a y is not positive.

    Example:
        >>> base = {"name": "coupling", "model_shape": (2,), "data_shape": (3,), "depth": 2}
        >>> flow = LogData((2,), (3,), base=base)
        >>> flow.sample(torch.full((1, 3), 100.0), 5).shape
        torch.Size([5, 2])
    """

    def __init__(
        self, model_shape: Sequence[int], data_shape: Sequence[int], base: Mapping[str, Any] | Flow
    ) -> None:
        super().__init__(model_shape, data_shape)
        self.base = as_flow(base)

    def condition(self, y: Tensor) -> Tensor:
        positive = y > 0
        if not positive.all():
            raise PflowError(
                f"data must be positive for `data_transform: log`, and {int((~positive).sum())} of"
                f" {y.numel()} are not (the smallest is {float(y.min()):.3g}): leave"
                " data_transform of this flow out, or shift the data"
            )
        return y.log()

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self._check(x, y)
        return self.base(x, self.condition(y))

    def inverse(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self._check(z, y)
        return self.base.inverse(z, self.condition(y))

    def log_prob_pairs(self, x: Tensor, y: Tensor) -> Tensor:
        self._check(x, y)
        return self.base.log_prob_pairs(x, self.condition(y))

    @torch.no_grad()
    def initialise(self, x: Tensor, y: Tensor) -> None:
        if self.initialised:
            return
        self._check_pairs(x, y)
        self.base.initialise(x, self.condition(y))
        self.initialised.fill_(True)

    @torch.no_grad()
    def initialise_inverse(
        self,
        n: int,
        y: Tensor,
        generator: torch.Generator | None = None,
        prior: Tensor | None = None,
    ) -> None:
        self.base.initialise_inverse(n, self.condition(y), generator, prior)
        self.initialised.fill_(True)
