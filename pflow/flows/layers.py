"""Linear layers between couplings, for inputs (batch, channels, *spatial).

All `depth` blocks of a flow are alike, so each parameter here is one tensor with a leading
dimension `depth`. Everything independent of x is then computed once for all blocks (one kernel
instead of `depth`), and the optimiser has few tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["ActNorm", "Householder", "Mixing", "Permutation", "channelwise", "moments"]

Mixing = Callable[[Tensor], Tensor]


def channelwise(
    values: Float[Tensor, "*batch channels"], x: Float[Tensor, "batch channels *spatial"]
) -> Tensor:
    """`values` in a shape that broadcasts over the spatial dimensions of x."""
    return values.view(values.shape + (1,) * (x.ndim - 2)) if x.ndim > 2 else values


def moments(
    x: Float[Tensor, "batch channels *spatial"],
) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Mean and standard deviation of each channel over batch and space; a constant channel has
    standard deviation 1.
    """
    values = x.transpose(0, 1).flatten(1)
    deviation, mean = torch.std_mean(values, dim=1)
    return mean, torch.where(deviation > 0, deviation, 1.0)


class ActNorm(nn.Module):
    r"""Activation normalisation: :math:`x \exp(\lambda) + \beta` for each channel, of `depth`
    blocks.

    The identity until `initialise` makes the result zero in mean and one in variance over a first
    batch.

    Arguments:
        depth: number of blocks.
        channels: number of channels.

    References:
        | Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma and Dhariwal, 2018)
        | https://arxiv.org/abs/1807.03039
    """

    def __init__(self, depth: int, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(depth, channels))
        self.shift = nn.Parameter(torch.zeros(depth, channels))

    @torch.no_grad()
    def initialise(self, block: int, x: Float[Tensor, "batch channels *spatial"]) -> None:
        """Normalise what enters `block`."""
        mean, deviation = moments(x)
        self.log_scale[block] = -deviation.log()
        self.shift[block] = -mean / deviation


class Permutation(nn.Module):
    """Fixed permutations of the channels before the blocks, drawn from a seed.

    Couplings exchange their halves by themselves; every other block (0, 2, 4, ...) begins with a
    random permutation on top, which pairs the channels anew. Two channels need none.

    Arguments:
        depth: number of blocks.
        channels: number of channels.
        seed: of the permutations, which are saved with the weights.
    """

    order: Tensor

    def __init__(self, depth: int, channels: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        rows = range(0, depth, 2) if channels > 2 else ()
        orders = [torch.randperm(channels, generator=generator) for _ in rows]
        self.depth, self.channels = depth, channels
        self.register_buffer(
            "order", torch.stack(orders) if orders else torch.empty(0, channels, dtype=torch.long)
        )

    def forward(self, inverse: bool = False) -> list[Mixing | None]:
        """For each block, the permutation as a function of x; None where there is none."""
        if not len(self.order):
            return [None] * self.depth
        orders = (self.order.argsort(1) if inverse else self.order).unbind()
        permutations = [partial(_permute, order) for order in orders]
        return [None if block % 2 else permutations[block // 2] for block in range(self.depth)]

    def orders(self) -> Int[Tensor, "depth channels"]:
        """For each block, where its channels come from, where couplings do not exchange their
        halves themselves.
        """
        channels = torch.arange(self.channels, device=self.order.device)
        exchanged = channels.roll(self.channels // 2)
        return torch.stack(
            [
                self.order[block // 2] if block % 2 == 0 and len(self.order) else exchanged
                for block in range(self.depth)
            ]
        )


class Householder(nn.Module):
    r"""Orthogonal mixing :math:`x Q`, with reflections :math:`Q = H_1 H_2 \cdots H_r`, :math:`H_i =
    I - 2 v_i v_i^T / |v_i|^2`.

    The product is computed in compact form for all blocks at once, with the v_i as rows of V:

        Q = I - V^T S^{-1} V,    S = the upper triangle of V V^T, its diagonal halved

    Arguments:
        depth: number of blocks.
        channels: number k of channels.
        reflections: number r of reflections. With r = k they reach every orthogonal matrix of
            determinant (-1)^k.

    References:
        | Accumulating Householder transformations, revisited (Joffrain et al., 2006)
        | https://doi.org/10.1145/1141885.1141886
    """

    def __init__(self, depth: int, channels: int, reflections: int) -> None:
        super().__init__()
        bound = (6 / (1 + channels)) ** 0.5
        self.vectors = nn.Parameter(
            torch.empty(depth, reflections, channels).uniform_(-bound, bound)
        )

    def matrices(self) -> Float[Tensor, "depth channels channels"]:
        """Q of every block; its inverse is its transpose, and its log-determinant is zero."""
        v = self.vectors
        gram = v @ v.mT
        system = gram.triu(1) + torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1) * 0.5)
        identity = torch.eye(v.shape[-1], dtype=v.dtype, device=v.device)
        return identity - v.mT @ torch.linalg.solve_triangular(system, v, upper=True)

    def forward(self, inverse: bool = False) -> list[Mixing]:
        """For each block, the rotation as a function of x."""
        matrices = self.matrices()
        return [
            partial(_rotate, matrix) for matrix in (matrices.mT if inverse else matrices).unbind()
        ]


def _permute(order: Tensor, x: Float[Tensor, "batch channels *spatial"]) -> Tensor:
    return x.index_select(1, order)


def _rotate(matrix: Tensor, x: Float[Tensor, "batch channels *spatial"]) -> Tensor:
    return x @ matrix if x.ndim == 2 else torch.einsum("bi...,ij->bj...", x, matrix)
