"""One lane of conditional HINT, for vectors and for images: residual blocks, and the recursive
coupling made of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pflow.flows.convolution import convolve
from pflow.flows.layers import Householder, moments

__all__ = [
    "HintLane",
    "ImageResidualBlocks",
    "ResidualBlocks",
    "Weights",
    "couple",
    "gates",
    "uncouple",
]

Weights = tuple[Tensor, ...]


class HintLane(nn.Module):
    r"""One lane of all `depth` blocks: ActNorm, rotation, recursive coupling.

    The ActNorm is :math:`x s + b` with s itself as parameter (of either sign), then the rotation is
    :math:`C = H_1 H_2 H_3` (`Householder`); both together are one affine map.

    The coupling H halves its channels while there are more than four. With halves (a, b) it is

    .. math::
        H(a, b) = \bigl( H'(a),\ S(a)\, H'(b) + T(a) \bigr)

    and (a, S(a) b + T(a)) at the finest level. H' is one level finer; a level has one residual
    block for all its calls.
    """

    def __init__(
        self,
        depth: int,
        channels: int,
        hidden: int,
        residual_blocks: type[ResidualBlocks | ImageResidualBlocks],
    ) -> None:
        super().__init__()
        levels = 1 + max(0, (channels - 1).bit_length() - 2)
        self.scale = nn.Parameter(torch.ones(depth, channels))
        self.shift = nn.Parameter(torch.zeros(depth, channels))
        self.rotation = Householder(depth, channels, reflections=3)
        self.levels = nn.ModuleList(
            residual_blocks(depth, channels >> level, hidden) for level in range(1, levels + 1)
        )

    def affine(self, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """Matrix M and offset m of every block: x M + m is ActNorm and rotation together, or their
        inverse.
        """
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
        """Normalise what the inverse of `block` returns, and return it; x is what enters its
        rotation's inverse.
        """
        x = x @ self.rotation.matrices()[block].mT
        mean, deviation = moments(x)
        self.scale[block] = deviation
        self.shift[block] = mean
        return (x - mean) / deviation


class ResidualBlocks(nn.Module):
    r"""Residual blocks of all `depth` blocks, channels k -> hidden -> 2 k:

    .. math::
        h_1 = \mathrm{relu}(u W_1 + b_1), \quad h_2 = \mathrm{relu}(h_1 + h_1 W_2 + b_2), \quad r(u)
        = \mathrm{relu}(h_2 W_3)

    The last relu is the released code's: with r = (l, T) and the gate S = sigmoid(l), every l and T
    is at least 0, so that S lies in [1/2, 1). One coupling can therefore only shrink, and shift
    upwards.

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

        self.weight_1, self.bias_1 = (
            glorot(channels, hidden),
            nn.Parameter(torch.zeros(depth, 1, hidden)),
        )
        self.weight_2, self.bias_2 = (
            glorot(hidden, hidden),
            nn.Parameter(torch.zeros(depth, 1, hidden)),
        )
        self.weight_3 = glorot(hidden, 2 * channels)

    def stacked(self) -> Weights:
        """The weights of all blocks; the residual connection is the identity added to W_2."""
        identity = torch.eye(
            self.weight_2.shape[-1], dtype=self.weight_2.dtype, device=self.weight_2.device
        )
        return self.weight_1, self.bias_1, self.weight_2 + identity, self.bias_2, self.weight_3

    def unbind(self) -> list[Weights]:
        """The weights of each block."""
        return list(zip(*self.stacked(), strict=True))


class ImageResidualBlocks(nn.Module):
    r"""The residual blocks of images: the same equations with convolutions of 3x3 kernels, zeros
    outside of the image.

    Arguments:
        depth: number of blocks.
        channels: k.
        hidden: width.
    """

    def __init__(self, depth: int, channels: int, hidden: int) -> None:
        super().__init__()

        def glorot(inputs: int, outputs: int) -> nn.Parameter:
            bound = (6 / (9 * inputs + 9 * outputs)) ** 0.5
            return nn.Parameter(torch.empty(depth, outputs, inputs, 3, 3).uniform_(-bound, bound))

        self.weight_1, self.bias_1 = (
            glorot(channels, hidden),
            nn.Parameter(torch.zeros(depth, hidden)),
        )
        self.weight_2, self.bias_2 = (
            glorot(hidden, hidden),
            nn.Parameter(torch.zeros(depth, hidden)),
        )
        self.weight_3 = glorot(hidden, 2 * channels)

    def unbind(self) -> list[Weights]:
        """The weights of each block."""
        return list(
            zip(self.weight_1, self.bias_1, self.weight_2, self.bias_2, self.weight_3, strict=True)
        )


def gates(u: Tensor, weights: Weights) -> tuple[Tensor, Tensor, Tensor]:
    """log S, S and T at u, for one block or, with stacked weights and u (depth, batch, channels),
    for all.
    """
    logit, shift = (
        _convolved(u, weights).chunk(2, 1) if u.ndim == 4 else _multiplied(u, weights).chunk(2, -1)
    )
    scale = logit.sigmoid()
    return scale.log(), scale, shift


def _multiplied(u: Tensor, weights: Weights) -> Tensor:
    """The residual block of vectors."""
    weight_1, bias_1, weight_2, bias_2, weight_3 = weights
    multiply_add = torch.addmm if u.ndim == 2 else torch.baddbmm
    hidden = multiply_add(bias_1, u, weight_1).relu()
    hidden = multiply_add(bias_2, hidden, weight_2).relu()
    return (hidden @ weight_3).relu()


def _convolved(u: Tensor, weights: Weights) -> Tensor:
    """The residual block of images."""
    weight_1, bias_1, weight_2, bias_2, weight_3 = weights
    hidden = convolve(u, weight_1, bias_1).relu()
    hidden = (hidden + convolve(hidden, weight_2, bias_2)).relu()
    return convolve(hidden, weight_3).relu()


def couple(x: Tensor, levels: Sequence[Weights], terms: list[Tensor]) -> Tensor:
    """H(x) with the residual blocks of its levels, coarsest first; its log-scales are appended to
    `terms`.
    """
    a, b = x.chunk(2, 1)
    log_scale, scale, shift = gates(a, levels[0])
    terms.append(log_scale)
    if len(levels) > 1:
        a, b = couple(a, levels[1:], terms), couple(b, levels[1:], terms)
    return torch.cat((a, b * scale + shift), 1)


def uncouple(x: Tensor, levels: Sequence[Weights], terms: list[Tensor]) -> Tensor:
    """The inverse of `couple`, which appends the same log-scales."""
    a, b = x.chunk(2, 1)
    if len(levels) > 1:
        a = uncouple(a, levels[1:], terms)
    log_scale, scale, shift = gates(a, levels[0])
    terms.append(log_scale)
    b = (b - shift) / scale
    return torch.cat((a, uncouple(b, levels[1:], terms) if len(levels) > 1 else b), 1)
