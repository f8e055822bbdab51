r"""`spline_latent`: a flow whose latent passes through spline couplings, for several modes.

An affine coupling stretches a normal distribution, and leaves a bridge of mass between separated
modes; a spline splits it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pflow.errors import PflowError
from pflow.flows.base import Flow, as_flow, require_at_least_one
from pflow.flows.layers import Permutation
from pflow.flows.splines import rational_quadratic_spline

__all__ = ["SplineLatent", "without_idle_splines"]


class SplineLatent(Flow):
    r"""The flow :math:`z = S_K \circ \cdots \circ S_1 (T_0(x; y))` with the halves (a, b) of a
    latent coupled by

    .. math::
        S_k: (a, b) = P_k z, \quad b' = \text{spline}(b; s_k(a)), \quad z \leftarrow (b', a)

    The splines (`splines`) are monotone on [-B, B] and the identity beyond. They do not see y: they
    are learnt for one observation. Every s starts at zero, so S at the identity; until `wake` is
    called it is left out. A single parameter is all b, with one spline for all.

    Arguments:
        base: the flow T_0, as arguments of `build_flow`, or built.
        depth: K.
        hidden: width of the networks s, of two hidden layers.
        bins: of a spline.
        bound: B.

    References:
        | Neural spline flows (Durkan et al., 2019), https://arxiv.org/abs/1906.04032

    Example:
        >>> shapes = {"model_shape": (2,), "data_shape": (1,)}
        >>> base = {"name": "coupling", **shapes, "depth": 2, "hidden": 8}
        >>> flow = SplineLatent((2,), (1,), base=base)
        >>> flow.wake()
        >>> flow.sample(torch.zeros(1, 1), 3).shape
        torch.Size([3, 2])
    """

    awake: Tensor

    def __init__(
        self,
        model_shape: Sequence[int],
        data_shape: Sequence[int],
        base: Mapping[str, Any] | Flow,
        depth: int = 2,
        hidden: int = 64,
        bins: int = 16,
        bound: float = 5.0,
    ) -> None:
        super().__init__(model_shape, data_shape)
        require_at_least_one(depth=depth, hidden=hidden, bins=bins)
        if not bound > 0:
            raise PflowError(
                f"`bound` (={bound}) of a spline_latent flow bounds its splines and must be"
                " positive: 5.0 is a good value"
            )
        size = math.prod(self.model_shape)
        self.size_b = max(1, size // 2)
        self.base, self.bound = as_flow(base), bound
        self.mixing = Permutation(depth, size, 0)
        outputs = self.size_b * (3 * bins - 1)
        self.networks = nn.ModuleList(
            _network(size - self.size_b, hidden, outputs) for _ in range(depth)
        )
        self.register_buffer("awake", torch.tensor(False))

    def wake(self) -> None:
        """From now on the splines take part."""
        self.awake.fill_(True)

    def forward(
        self, x: Float[Tensor, "batch *model"], y: Float[Tensor, "#batch *data"]
    ) -> tuple[Float[Tensor, "batch *model"], Float[Tensor, " batch"]]:
        z, log_determinant = self.base(x, y)
        if not self.awake:
            return z, log_determinant
        whole, log_slopes = z.flatten(1), []
        for network, mix in zip(self.networks, self.mixing(), strict=True):
            whole = whole if mix is None else mix(whole)
            a, b = whole.split([whole.shape[1] - self.size_b, self.size_b], 1)
            b, log_slope = rational_quadratic_spline(b, self._shape(network, a), self.bound)
            log_slopes.append(log_slope)
            whole = torch.cat([b, a], 1)
        return whole.view_as(z), log_determinant + torch.cat(log_slopes, 1).sum(1)

    def inverse(
        self, z: Float[Tensor, "batch *model"], y: Float[Tensor, "#batch *data"]
    ) -> tuple[Float[Tensor, "batch *model"], Float[Tensor, " batch"]]:
        if not self.awake:
            return self.base.inverse(z, y)
        whole, log_slopes = z.flatten(1), []
        blocks = list(zip(self.networks, self.mixing(inverse=True), strict=True))
        for network, mix in reversed(blocks):
            b, a = whole.split([self.size_b, whole.shape[1] - self.size_b], 1)
            b, log_slope = rational_quadratic_spline(b, self._shape(network, a), self.bound, True)
            log_slopes.append(log_slope)
            whole = torch.cat([a, b], 1)
            whole = whole if mix is None else mix(whole)
        x, log_determinant = self.base.inverse(whole.view_as(z), y)
        return x, log_determinant + torch.cat(log_slopes, 1).sum(1)

    def condition(self, y: Tensor) -> Tensor:
        return self.base.condition(y)

    def initialise(self, x: Tensor, y: Tensor) -> None:
        """That of T_0."""
        self.base.initialise(x, y)
        self.initialised.fill_(True)

    def initialise_inverse(
        self,
        n: int,
        y: Tensor,
        generator: torch.Generator | None = None,
        prior: Tensor | None = None,
    ) -> None:
        self.base.initialise_inverse(n, y, generator, prior)
        self.initialised.fill_(True)

    def _shape(self, network: nn.Module, a: Tensor) -> Tensor:
        """The parameters of each spline, (batch, size of b, 3 K - 1)."""
        return network(a).reshape(len(a), self.size_b, -1)


def without_idle_splines(flow: Flow, architecture: dict[str, Any]) -> tuple[Flow, dict[str, Any]]:
    """The flow under splines that never took part, which is the same density; any other flow as it
    is.

    Arguments:
        flow: the flow.
        architecture: arguments of `build_flow` for it.
    """
    if isinstance(flow, SplineLatent) and not flow.awake:
        return flow.base, architecture["base"]
    return flow, architecture


def _network(inputs: int, hidden: int, outputs: int) -> nn.Module:
    """s, zero at first; without inputs a constant."""
    if not inputs:
        return _Constant(outputs)
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last
    )


class _Constant(nn.Module):
    """The same outputs for every row of an input without columns."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(outputs))

    def forward(self, a: Tensor) -> Tensor:
        return self.values.expand(len(a), -1)
