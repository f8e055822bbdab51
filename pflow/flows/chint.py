"""`chint`: the seed paper's conditional HINT, as its released Julia code builds it.

Two lanes of the same shape: the data lane y -> z_y and the model lane x -> z_x. The couplings of
the model lane do not depend on y; y enters once per block, through an affine map of all of x.
Faithful to NetworkConditionalHINT of InvertibleNetworks.jl (late 2020), on a grid of one point,
where only the centre of each 3x3 kernel acts; for images see `image_chint`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pflow.errors import PflowError
from pflow.flows.base import (
    Flow,
    by_spatial_dimensions,
    require_at_least_one,
    standard_normal_log_density,
)
from pflow.flows.hint import HintLane, ResidualBlocks, couple, gates, uncouple

__all__ = ["ConditionalHint", "require_power_of_two"]


def require_power_of_two(model_shape: Sequence[int], at_least: int) -> None:
    """Raise PflowError for a number of channels that is not a power of two."""
    channels = model_shape[0]
    if channels < at_least or channels & (channels - 1):
        raise PflowError(
            f"`model_shape` (={tuple(model_shape)}) of a chint flow must have a power of two of"
            f" channels, at least {at_least}, because its couplings halve them: pad the model, or"
            " use the flow `coupling`"
        )


class ConditionalHint(Flow):
    r"""Conditional HINT (hierarchical invertible neural transport) over pairs (y, x).

    Each of the `depth` blocks is, with ActNorms N, rotations C, recursive couplings H of one lane,
    and gates (S, T):

    .. math::
        y_p &= C_y(N_y(y)), \quad & y &\leftarrow H_y(y_p) \\ x_p &= C_x(N_x(x)), \quad & x
        &\leftarrow S(y_p)\, H_x(x_p) + T(y_p)

    so that log q(x given y) is the density of the model lane at the y_p of every block, and
    pretraining maximises the joint density log q(x given y) + log q(y) of both lanes.

    Arguments:
        model_shape: shape of x, (channels,) with a power of two of channels, at least 2.
        data_shape: shape of y, with as many elements as x.
        depth: number of blocks.
        hidden: width of the residual blocks.

    References:
        | HINT: hierarchical invertible neural transport for density estimation and Bayesian
        inference (Kruse et al., 2021)
        | https://arxiv.org/abs/1905.10687
        | Preconditioned training of normalizing flows for variational inference in inverse problems
        (Siahkoohi et al., 2021)
        | https://arxiv.org/abs/2101.03709

    Example:
        >>> flow = ConditionalHint((4,), (4,), depth=2, hidden=8)
        >>> x, y = torch.randn(5, 4), torch.randn(5, 4)
        >>> z, log_determinant = flow(x, y)
        >>> z.shape, log_determinant.shape
        (torch.Size([5, 4]), torch.Size([5]))
    """

    def __init__(
        self,
        model_shape: Sequence[int],
        data_shape: Sequence[int],
        depth: int = 8,
        hidden: int = 64,
    ) -> None:
        super().__init__(model_shape, data_shape)
        require_at_least_one(depth=depth, hidden=hidden)
        residual_blocks = by_spatial_dimensions({0: ResidualBlocks}, self.model_shape)
        channels = self.model_shape[0]
        require_power_of_two(self.model_shape, at_least=2)
        if math.prod(self.data_shape) != channels:
            raise PflowError(
                f"`data_shape` (={self.data_shape}) of a chint flow must have as many elements as"
                f" `model_shape` (={self.model_shape}), because its lanes are alike: map y to the"
                " model's shape, or use the flow `coupling`"
            )
        self.depth = depth
        self.model_lane = HintLane(depth, channels, hidden, residual_blocks)
        self.data_lane = HintLane(depth, channels, hidden, residual_blocks)
        self.conditional = residual_blocks(depth, channels, hidden)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self._check(x, y)
        return self._model_lane_forward(x, self._permuted_data(y)[0])

    def inverse(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self._check(z, y)
        lane = self.model_lane
        log_scales, scales, shifts = self._conditional_gates(self._permuted_data(y)[0])
        terms = [lane.log_determinant()]
        blocks = zip(*lane.affine(inverse=True), lane.weights(), scales, shifts, strict=True)
        for matrix, offset, levels, scale, shift in reversed(list(blocks)):
            z = uncouple((z - shift) / scale, levels, terms)
            z = torch.addmm(offset, z, matrix)
        return z, -_total(terms, len(z)) - log_scales

    def log_prob_pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """log q(x given y) + log q(y), the joint density of both lanes."""
        self._check(x, y)
        permuted, z_y, log_determinant_y = self._permuted_data(y, whole_lane=True)
        z_x, log_determinant_x = self._model_lane_forward(x, permuted)
        return (
            standard_normal_log_density(z_x)
            + standard_normal_log_density(z_y)
            + log_determinant_x
            + log_determinant_y
        )

    @torch.no_grad()
    def initialise(self, x: Tensor, y: Tensor) -> None:
        """Set every ActNorm of both lanes from the first batch, front to back. Does nothing on an
        initialised flow.
        """
        if self.initialised:
            return
        self._check_pairs(x, y)
        y = y.flatten(1)
        for block in range(self.depth):
            permuted = self.data_lane.initialise(block, y)
            y = couple(permuted, self.data_lane.weights()[block], [])
            x = couple(self.model_lane.initialise(block, x), self.model_lane.weights()[block], [])
            _, scale, shift = gates(permuted, self.conditional.unbind()[block])
            x = x * scale + shift
        self.initialised.fill_(True)

    @torch.no_grad()
    def initialise_inverse(
        self,
        n: int,
        y: Tensor,
        generator: torch.Generator | None = None,
        prior: Tensor | None = None,
    ) -> None:
        """Set every ActNorm on the sampling direction from n latents (z_x, z_y), back to front, as
        the paper does from random weights. `y` and `prior` are not used: the paper initialises the
        data lane from latents as well.
        """
        if self.initialised:
            return
        if n < 2:
            raise PflowError(
                f"`initialise_inverse` needs the moments of at least 2 draws, and got n={n}: give a"
                " larger number"
            )
        z_x, z_y = self.draw_latent(n, generator), self.draw_latent(n, generator)
        for block in reversed(range(self.depth)):
            permuted = uncouple(z_y, self.data_lane.weights()[block], [])
            z_y = self.data_lane.initialise_inverse(block, permuted)
            _, scale, shift = gates(permuted, self.conditional.unbind()[block])
            z_x = uncouple((z_x - shift) / scale, self.model_lane.weights()[block], [])
            z_x = self.model_lane.initialise_inverse(block, z_x)
        self.initialised.fill_(True)

    def _model_lane_forward(self, x: Tensor, permuted: Tensor) -> tuple[Tensor, Tensor]:
        lane = self.model_lane
        log_scales, scales, shifts = self._conditional_gates(permuted)
        terms = [lane.log_determinant()]
        for matrix, offset, levels, scale, shift in zip(
            *lane.affine(), lane.weights(), scales, shifts, strict=True
        ):
            x = couple(torch.addmm(offset, x, matrix), levels, terms)
            x = x * scale + shift
        return x, _total(terms, len(x)) + log_scales

    def _permuted_data(self, y: Tensor, whole_lane: bool = False) -> tuple[Tensor, ...]:
        """y_p of every block, (depth, batch, channels); with `whole_lane` also z_y and the data
        lane's log-determinant.
        """
        lane, y = self.data_lane, y.flatten(1)
        terms = [lane.log_determinant()]
        permuted = []
        for matrix, offset, levels in zip(*lane.affine(), lane.weights(), strict=True):
            permuted.append(torch.addmm(offset, y, matrix))
            if whole_lane or len(permuted) < self.depth:
                y = couple(permuted[-1], levels, terms)
        return torch.stack(permuted), y, _total(terms, len(y))

    def _conditional_gates(self, permuted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of log S over blocks and channels, (batch,), and S and T of every block, from y_p of
        all blocks at once.
        """
        log_scales, scales, shifts = gates(permuted, self.conditional.stacked())
        return log_scales.sum((0, 2)), scales, shifts


def _total(terms: list[Tensor], batch: int) -> Tensor:
    return torch.cat([term.expand(batch, -1) for term in terms], 1).sum(1)
