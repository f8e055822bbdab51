"""`coupling`: affine couplings conditioned on one half of x and the data y."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pflow.errors import PflowError
from pflow.flows.base import Flow, by_spatial_dimensions, require_at_least_one, require_compiler
from pflow.flows.conditioners import VectorConditioner, activation_named, rows
from pflow.flows.layers import ActNorm, Householder, Mixing, Permutation, moments

__all__ = ["ConditionalCouplingFlow"]

NETWORKS = {0: VectorConditioner}
Halves = tuple[Tensor, Tensor]


class ConditionalCouplingFlow(Flow):
    r"""Conditional affine coupling flow.

    x is first normalised given y alone; then each of the `depth` blocks mixes the channels, splits
    them into halves (a, b), and couples them:

    .. math::
        x &\leftarrow x \exp(\lambda_0 + s_0(y)) + \beta_0 + t_0(y) \\ (a, b) &= P_k x, \quad b' = b
        \exp(\lambda_k + s_k(a, y)) + \beta_k + t_k(a, y), \quad x
        \leftarrow (b', a)

    P is a fixed permutation or a learned rotation; :math:`\lambda, \beta` are ActNorms, of all
    channels at the entrance and of b in the blocks (an affine map of a is left to the block where
    it is b). Every s is clamped softly,
    :math:`c \tanh(s / c)`, and every s and t starts at zero. The halves leave exchanged, so that
    two blocks in a row change every channel (of an odd number, all but one). A single channel has
    no halves: the first line is then the whole flow.

    Arguments:
        model_shape: shape of x, (channels,).
        data_shape: shape of y, any; y is flattened, and normalised by the moments of the batch of
            `initialise`.
        depth: number of blocks.
        hidden: width of the networks.
        mixing: P, "permutation" (drawn from `seed`) or "orthogonal" (Householder reflections, at
            most 16).
        actnorm: whether there are :math:`\lambda` and :math:`\beta`.
        layers: hidden layers of the networks.
        activation: "silu" (smooth, so that scores are) or "relu".
        clamp: c, the bound of each log-scale.
        compile: whether torch.compile makes one program of `forward` and its gradient at their
            first call, which takes a minute or more and a C++ compiler; a gradient cannot be
            differentiated again then. Copies of the flow are not compiled.
        seed: of the permutations.

    References:
        | Density estimation using Real NVP (Dinh et al., 2017), https://arxiv.org/abs/1605.08803
        | Guided image generation with conditional invertible neural networks (Ardizzone et al.,
        2019)
        | https://arxiv.org/abs/1907.02392

    Example:
        >>> flow = ConditionalCouplingFlow((3,), (2,), depth=2, hidden=8)
        >>> x, y = torch.randn(5, 3), torch.randn(5, 2)
        >>> z, log_determinant = flow(x, y)
        >>> z.shape, log_determinant.shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    data_shift: Tensor
    data_scale: Tensor

    def __init__(
        self,
        model_shape: Sequence[int],
        data_shape: Sequence[int],
        depth: int = 8,
        hidden: int = 64,
        mixing: str = "permutation",
        actnorm: bool = True,
        layers: int = 2,
        activation: str = "silu",
        clamp: float = 2.0,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(model_shape, data_shape)
        require_at_least_one(depth=depth, hidden=hidden, layers=layers)
        if mixing not in ("permutation", "orthogonal"):
            raise PflowError(
                f"`mixing` (='{mixing}') of a flow must be permutation or orthogonal: choose one of"
                " these"
            )
        if not clamp > 0:
            raise PflowError(
                f"`clamp` (={clamp}) of a flow bounds its log-scales and must be positive: 2.0 is a"
                " good value"
            )
        conditioner = by_spatial_dimensions(NETWORKS, self.model_shape)
        channels, data_size, function = (
            self.model_shape[0],
            math.prod(self.data_shape),
            activation_named(activation),
        )
        # a is the larger half: of three channels two inform one; a single channel is all a, and has
        # no blocks
        size_a, size_b = self.halves = (channels - channels // 2, channels // 2)
        depth = depth if size_b else 0
        self.depth, self.clamp = depth, clamp

        self.register_buffer("data_shift", torch.zeros(data_size))
        self.register_buffer("data_scale", torch.ones(data_size))
        # the blocks' networks return (s / c, t): dividing by the clamp c costs nothing inside their
        # last layer
        result_scale = torch.tensor([1 / clamp] * size_b + [1.0] * size_b)
        self.register_buffer("result_scale", result_scale, persistent=False)
        rotate = mixing == "orthogonal" and channels > 1
        self.conditioner = conditioner(
            depth, channels, size_a, data_size, 2 * size_b, hidden, layers, function
        )
        self.mixing = (
            Householder(depth, channels, min(channels, 16))
            if rotate
            else Permutation(depth, channels, seed)
        )
        self.entrance = ActNorm(1, channels) if actnorm else None
        self.actnorm = ActNorm(depth, size_b) if actnorm and depth else None
        if compile:
            require_compiler()
            self.compile(fullgraph=True, options={"cpp_wrapper": True})

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self._check(x, y)
        y = self._normalised(y)
        (log_scale, shift), blocks = self._networks(y, len(x))
        log_scales = [log_scale.expand_as(x)]
        halves = (x * log_scale.exp() + shift).split(self.halves, 1)
        for block in blocks:
            a, b = _regroup(halves, self.halves, block.mixing)
            halves = self._couple(block, a, b, log_scales)
        return torch.cat(halves, 1), torch.cat(log_scales, 1).sum(1)

    def inverse(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self._check(z, y)
        y = self._normalised(y)
        (log_scale, shift), blocks = self._networks(y, len(z), inverse=True)
        log_scales = [log_scale.expand_as(z)]
        halves = z.split(self.halves[::-1], 1)
        for block in reversed(blocks):
            a, b = self._uncouple(block, halves[0], halves[1], log_scales)
            halves = _regroup((a, b), self.halves[::-1], block.mixing)
        return (torch.cat(halves, 1) - shift) * torch.exp(-log_scale), -torch.cat(
            log_scales, 1
        ).sum(1)

    @torch.no_grad()
    def initialise(self, x: Tensor, y: Tensor) -> None:
        """Normalise y by its moments and, through ActNorm, x and the b of each block. Does nothing
        on an initialised flow.
        """
        if self.initialised:
            return
        self._check_pairs(x, y)
        mean, deviation = moments(y.flatten(1))
        self.data_shift.copy_(mean)
        self.data_scale.copy_(1 / deviation)
        if self.entrance:
            self.entrance.initialise(0, x)
        if self.actnorm:
            y = self._normalised(y)
            (log_scale, shift), _ = self._networks(y, len(x))
            halves = (x * log_scale.exp() + shift).split(self.halves, 1)
            for index in range(self.depth):
                a, b = _regroup(halves, self.halves, self.mixing()[index])
                self.actnorm.initialise(index, b)
                halves = self._couple(self._networks(y, len(x))[1][index], a, b, [])
        self.initialised.fill_(True)

    def _normalised(self, y: Tensor) -> Tensor:
        return (y.flatten(1) - self.data_shift) * self.data_scale

    def _networks(self, y: Tensor, n: int, inverse: bool = False) -> tuple[Halves, list[Block]]:
        """Log-scale and shift at the entrance and all blocks, at the y of n x, with everything
        computed that does not depend on x.
        """
        centres, shifts = (
            (self.actnorm.log_scale, self.actnorm.shift)
            if self.actnorm
            else y.new_zeros(2, self.depth, self.halves[1])
        )
        entrance, networks = self.conditioner(
            y, n, self.result_scale, F.pad(shifts, (self.halves[1], 0))
        )
        blocks = [
            Block(*parts)
            for parts in zip(
                self.mixing(inverse), rows(centres.unsqueeze(1), n), networks, strict=True
            )
        ]
        log_scale, shift = entrance.chunk(2, 1)
        log_scale = torch.tanh(log_scale / self.clamp)
        if not self.entrance:
            return (self.clamp * log_scale, shift), blocks
        return (
            torch.add(self.entrance.log_scale, log_scale, alpha=self.clamp),
            shift + self.entrance.shift,
        ), blocks

    def _couple(self, block: Block, a: Tensor, b: Tensor, log_scales: list[Tensor]) -> Halves:
        log_scale, shift = self._log_scale_and_shift(block, a, log_scales)
        return b * log_scale.exp() + shift, a

    def _uncouple(self, block: Block, b: Tensor, a: Tensor, log_scales: list[Tensor]) -> Halves:
        log_scale, shift = self._log_scale_and_shift(block, a, log_scales)
        return a, (b - shift) * torch.exp(-log_scale)

    def _log_scale_and_shift(self, block: Block, a: Tensor, log_scales: list[Tensor]) -> Halves:
        log_scale, shift = block.network(a).chunk(2, 1)
        log_scale = torch.add(block.centre, log_scale.tanh(), alpha=self.clamp)
        log_scales.append(log_scale)
        return log_scale, shift


class Block(NamedTuple):
    """One block at one y: its mixing, the centre of its log-scale, and a -> (s / c, beta + t)."""

    mixing: Mixing | None
    centre: Tensor
    network: Callable[[Tensor], Tensor]


def _regroup(halves: Halves, sizes: tuple[int, int], mixing: Mixing | None) -> Halves:
    """The channels after `mixing`, in halves of `sizes`; untouched where they fit already."""
    if mixing is None and halves[0].shape[1] == sizes[0]:
        return halves
    whole = torch.cat(halves, 1)
    return (whole if mixing is None else mixing(whole)).split(sizes, 1)
