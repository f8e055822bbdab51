"""`chint`: the seed paper's conditional HINT, as its released Julia code builds it.

Two lanes of the same shape: the data lane y -> z_y and the model lane x -> z_x. The model lane's own couplings never see
y; y enters once a block, through an affine map of all of x. Faithful to NetworkConditionalHINT of InvertibleNetworks.jl
(late 2020), on a grid of one point, where only the centre of each 3x3 kernel acts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pflow.errors import PflowError
from pflow.flows.base import Flow, by_spatial_dimensions, require_at_least_one, standard_normal_log_density
from pflow.flows.layers import Householder, moments

__all__ = ["ConditionalHint", "HintLane", "ResidualBlocks"]

Weights = tuple[Tensor, ...]


class ConditionalHint(Flow):
    r"""Conditional HINT (hierarchical invertible neural transport) over pairs (y, x).

    Each of the `depth` blocks is, with ActNorms N, rotations C, recursive couplings H of one lane, and gates (S, T):

    .. math::
        y_p &= C_y(N_y(y)), \quad & y &\leftarrow H_y(y_p) \\
        x_p &= C_x(N_x(x)), \quad & x &\leftarrow S(y_p)\, H_x(x_p) + T(y_p)

    so that log q(x given y) is the density of the model lane at the y_p of every block, and pretraining maximises the
    joint density log q(x given y) + log q(y) of both lanes.

    Arguments:
        model_shape: shape of x, (channels,) with a power of two of channels, at least 2.
        data_shape: shape of y, with as many elements as x.
        depth: number of blocks.
        hidden: width of the residual blocks.

    References:
        | HINT: hierarchical invertible neural transport for density estimation and Bayesian inference (Kruse et al., 2021)
        | https://arxiv.org/abs/1905.10687
        | Preconditioned training of normalizing flows for variational inference in inverse problems (Siahkoohi et al., 2021)
        | https://arxiv.org/abs/2101.03709
    """

    def __init__(self, model_shape: Sequence[int], data_shape: Sequence[int], depth: int = 8, hidden: int = 64) -> None:
        super().__init__(model_shape, data_shape)
        require_at_least_one(depth=depth, hidden=hidden)
        residual_blocks = by_spatial_dimensions({0: ResidualBlocks}, self.model_shape)
        channels = self.model_shape[0]
        if channels < 2 or channels & (channels - 1):
            raise PflowError(
                f"`model_shape` (={self.model_shape}) of a chint flow must have a power of two of channels, at least 2, "
                "because its couplings halve them: pad the model, or use the flow `coupling`"
            )
        if math.prod(self.data_shape) != channels:
            raise PflowError(
                f"`data_shape` (={self.data_shape}) of a chint flow must have as many elements as `model_shape` "
                f"(={self.model_shape}), because its lanes are alike: map y to the model's shape, or use the flow `coupling`"
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
            z = _uncouple((z - shift) / scale, levels, terms)
            z = torch.addmm(offset, z, matrix)
        return z, -_total(terms, len(z)) - log_scales

    def log_prob_pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """log q(x given y) + log q(y), the joint density of both lanes."""
        self._check(x, y)
        permuted, z_y, log_determinant_y = self._permuted_data(y, whole_lane=True)
        z_x, log_determinant_x = self._model_lane_forward(x, permuted)
        return standard_normal_log_density(z_x) + standard_normal_log_density(z_y) + log_determinant_x + log_determinant_y

    @torch.no_grad()
    def initialise(self, x: Tensor, y: Tensor) -> None:
        """Set every ActNorm of both lanes from the first batch, front to back. Does nothing on an initialised flow."""
        if self.initialised:
            return
        self._check_pairs(x, y)
        y = y.flatten(1)
        for block in range(self.depth):
            permuted = self.data_lane.initialise(block, y)
            y = _couple(permuted, self.data_lane.weights()[block], [])
            x = _couple(self.model_lane.initialise(block, x), self.model_lane.weights()[block], [])
            _, scale, shift = _gates(permuted, self.conditional.unbind()[block])
            x = x * scale + shift
        self.initialised.fill_(True)

    @torch.no_grad()
    def initialise_inverse(self, n: int, y: Tensor, generator: torch.Generator | None = None) -> None:
        """Set every ActNorm on the sampling direction from n latents (z_x, z_y), back to front, as the paper does from
        random weights. `y` plays no part: there the data lane is initialised from latents as well.
        """
        if self.initialised:
            return
        if n < 2:
            raise PflowError(f"`initialise_inverse` needs the moments of at least 2 draws, and got n={n}: give a larger number")
        z_x, z_y = self.draw_latent(n, generator), self.draw_latent(n, generator)
        for block in reversed(range(self.depth)):
            permuted = _uncouple(z_y, self.data_lane.weights()[block], [])
            z_y = self.data_lane.initialise_inverse(block, permuted)
            _, scale, shift = _gates(permuted, self.conditional.unbind()[block])
            z_x = _uncouple((z_x - shift) / scale, self.model_lane.weights()[block], [])
            z_x = self.model_lane.initialise_inverse(block, z_x)
        self.initialised.fill_(True)

    def _model_lane_forward(self, x: Tensor, permuted: Tensor) -> tuple[Tensor, Tensor]:
        lane = self.model_lane
        log_scales, scales, shifts = self._conditional_gates(permuted)
        terms = [lane.log_determinant()]
        for matrix, offset, levels, scale, shift in zip(*lane.affine(), lane.weights(), scales, shifts, strict=True):
            x = _couple(torch.addmm(offset, x, matrix), levels, terms)
            x = x * scale + shift
        return x, _total(terms, len(x)) + log_scales

    def _permuted_data(self, y: Tensor, whole_lane: bool = False) -> tuple[Tensor, ...]:
        """y_p of every block, (depth, batch, channels); with `whole_lane` also z_y and the data lane's log-determinant."""
        lane, y = self.data_lane, y.flatten(1)
        terms = [lane.log_determinant()]
        permuted = []
        for matrix, offset, levels in zip(*lane.affine(), lane.weights(), strict=True):
            permuted.append(torch.addmm(offset, y, matrix))
            if whole_lane or len(permuted) < self.depth:
                y = _couple(permuted[-1], levels, terms)
        return torch.stack(permuted), y, _total(terms, len(y))

    def _conditional_gates(self, permuted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of log S over blocks and channels, (batch,), and S and T of every block, from y_p of all blocks at once."""
        log_scales, scales, shifts = _gates(permuted, self.conditional.stacked())
        return log_scales.sum((0, 2)), scales, shifts


class HintLane(nn.Module):
    r"""One lane of all `depth` blocks: ActNorm, rotation, recursive coupling.

    The ActNorm is :math:`x s + b` with s itself as parameter (of either sign), then the rotation is
    :math:`C = H_1 H_2 H_3` (`Householder`); both together are one affine map.

    The coupling H halves its channels while there are more than four. With halves (a, b) it is

    .. math::
        H(a, b) = \bigl( H'(a),\ S(a)\, H'(b) + T(a) \bigr)

    and (a, S(a) b + T(a)) at the finest level. H' is one level finer; a level has one residual block for all its calls.
    """

    def __init__(self, depth: int, channels: int, hidden: int, residual_blocks: type[ResidualBlocks]) -> None:
        super().__init__()
        levels = 1 + max(0, (channels - 1).bit_length() - 2)
        self.scale = nn.Parameter(torch.ones(depth, channels))
        self.shift = nn.Parameter(torch.zeros(depth, channels))
        self.rotation = Householder(depth, channels, reflections=3)
        self.levels = nn.ModuleList(residual_blocks(depth, channels >> level, hidden) for level in range(1, levels + 1))

    def affine(self, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """Matrix M and offset m of every block: x M + m is ActNorm and rotation together, or their inverse."""
        rotation = self.rotation.matrices()
        if inverse:
            return rotation.mT / self.scale.unsqueeze(1), -self.shift / self.scale
        return self.scale.unsqueeze(2) * rotation, (self.shift.unsqueeze(1) @ rotation).squeeze(1)

    def log_determinant(self) -> Tensor:
        """Of all affine maps together, (1, 1)."""
        return self.scale.abs().log().sum().view(1, 1)

    def weights(self) -> list[tuple[Weights, ...]]:
        """The residual blocks of every level, for each block."""
        return list(zip(*(level.unbind() for level in self.levels), strict=True))

    def initialise(self, block: int, x: Tensor) -> Tensor:
        """Normalise what enters `block`, and return it after ActNorm and rotation."""
        mean, deviation = moments(x)
        self.scale[block] = 1 / deviation
        self.shift[block] = -mean / deviation
        matrices, offsets = self.affine()
        return torch.addmm(offsets[block], x, matrices[block])

    def initialise_inverse(self, block: int, x: Tensor) -> Tensor:
        """Normalise what the inverse of `block` returns, and return it; x is what enters its rotation's inverse."""
        x = x @ self.rotation.matrices()[block].mT
        mean, deviation = moments(x)
        self.scale[block] = deviation
        self.shift[block] = mean
        return (x - mean) / deviation


class ResidualBlocks(nn.Module):
    r"""Residual blocks of all `depth` blocks, channels k -> hidden -> 2 k:

    .. math::
        h_1 = \mathrm{relu}(u W_1 + b_1), \quad
        h_2 = \mathrm{relu}(h_1 + h_1 W_2 + b_2), \quad
        r(u) = \mathrm{relu}(h_2 W_3)

    The last relu is the released code's: with r = (l, T) and the gate S = sigmoid(l), every l and T is at least 0, so that
    S lies in [1/2, 1). One coupling can therefore only shrink, and shift upwards.

    Weights start as the Glorot-uniform 3x3 kernels whose centres they are.

    Arguments:
        depth: number of blocks.
        channels: k.
        hidden: width.
    """

    def __init__(self, depth: int, channels: int, hidden: int) -> None:
        super().__init__()

        def glorot(inputs: int, outputs: int) -> nn.Parameter:
            bound = (6 / (9 * inputs + 9 * outputs)) ** 0.5
            return nn.Parameter(torch.empty(depth, inputs, outputs).uniform_(-bound, bound))

        self.weight_1, self.bias_1 = glorot(channels, hidden), nn.Parameter(torch.zeros(depth, 1, hidden))
        self.weight_2, self.bias_2 = glorot(hidden, hidden), nn.Parameter(torch.zeros(depth, 1, hidden))
        self.weight_3 = glorot(hidden, 2 * channels)

    def stacked(self) -> Weights:
        """The weights of all blocks; the residual connection is the identity added to W_2."""
        identity = torch.eye(self.weight_2.shape[-1], dtype=self.weight_2.dtype, device=self.weight_2.device)
        return self.weight_1, self.bias_1, self.weight_2 + identity, self.bias_2, self.weight_3

    def unbind(self) -> list[Weights]:
        """The weights of each block."""
        return list(zip(*self.stacked(), strict=True))


def _gates(u: Tensor, weights: Weights) -> tuple[Tensor, Tensor, Tensor]:
    """log S, S and T at u, for one block or, with stacked weights and u (depth, batch, channels), for all."""
    weight_1, bias_1, weight_2, bias_2, weight_3 = weights
    multiply_add = torch.addmm if u.ndim == 2 else torch.baddbmm
    hidden = multiply_add(bias_1, u, weight_1).relu()
    hidden = multiply_add(bias_2, hidden, weight_2).relu()
    logit, shift = (hidden @ weight_3).relu().chunk(2, -1)
    scale = logit.sigmoid()
    return scale.log(), scale, shift


def _couple(x: Tensor, levels: Sequence[Weights], terms: list[Tensor]) -> Tensor:
    """H(x) with the residual blocks of its levels, coarsest first; its log-scales are appended to `terms`."""
    a, b = x.chunk(2, 1)
    log_scale, scale, shift = _gates(a, levels[0])
    terms.append(log_scale)
    if len(levels) > 1:
        a, b = _couple(a, levels[1:], terms), _couple(b, levels[1:], terms)
    return torch.cat((a, b * scale + shift), 1)


def _uncouple(x: Tensor, levels: Sequence[Weights], terms: list[Tensor]) -> Tensor:
    """The inverse of `_couple`, which appends the same log-scales."""
    a, b = x.chunk(2, 1)
    if len(levels) > 1:
        a = _uncouple(a, levels[1:], terms)
    log_scale, scale, shift = _gates(a, levels[0])
    terms.append(log_scale)
    b = (b - shift) / scale
    return torch.cat((a, _uncouple(b, levels[1:], terms) if len(levels) > 1 else b), 1)


def _total(terms: list[Tensor], batch: int) -> Tensor:
    return torch.cat([term.expand(batch, -1) for term in terms], 1).sum(1)
