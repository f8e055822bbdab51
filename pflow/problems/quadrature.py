r"""Exact posteriors in two dimensions by quadrature on a grid, for any smooth density.

The trapezoidal rule on a box whose edges carry no mass converges faster than any power of the step,
so the evidence and the moments are exact to rounding once the grid resolves the density.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError

__all__ = ["GridPosterior"]

NODES = 801
DEPTH = 45.0  # nats below the peak: the rest has less than 1e-19 of the mass
MARGIN = 2  # coarse cells kept around the mass


class GridPosterior:
    """An `ExactPosterior` of two parameters.

    Arguments:
        log_joint: log p(x, y) at points (batch, 2) in float64.
        box: a box that holds all mass, ((low, high), (low, high)); it is shrunk to the mass.
        like: a tensor of the dtype and on the device that results shall have.

    Raises:
        PflowError: if the density reaches the edge of the box, or is too narrow for the grid.
    """

    def __init__(
        self,
        log_joint: Callable[[Tensor], Tensor],
        box: tuple[tuple[float, float], tuple[float, float]],
        like: Tensor,
    ) -> None:
        self._log_joint, self._like = log_joint, like
        axes, values = self._tabulate(self._shrink(box))
        steps = [float(axis[1] - axis[0]) for axis in axes]
        peak = values.max()
        weight = torch.exp(values - peak)
        self.log_evidence = float(
            peak + weight.sum().log() + math.log(steps[0]) + math.log(steps[1])
        )
        weight = weight / weight.sum()
        if float(weight.max()) > 0.02:
            raise PflowError(
                "the posterior is too narrow for exact quadrature: raise `problem.noise_std`"
            )
        points = torch.cartesian_prod(*axes)
        mean = (weight.flatten()[:, None] * points).sum(0)
        centred = points - mean
        covariance = (weight.flatten()[:, None] * centred).T @ centred
        self._axes, self._steps, self._weight = (
            axes,
            torch.tensor(steps, dtype=torch.float64),
            weight,
        )
        self.mean, self.covariance = mean.to(like), covariance.to(like)
        self.std = covariance.diagonal().sqrt().to(like)

    def log_density(self, x: Float[Tensor, "batch 2"]) -> Float[Tensor, " batch"]:
        """log p(x given y), normalised."""
        return (self._log_joint(x.double().cpu()) - self.log_evidence).to(x)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n 2"]:
        """Independent draws: a node by its mass, a point of the triangle kernel around it, then
        acceptance against the density.
        """
        accepted = torch.empty(0, 2, dtype=torch.float64)
        cumulative = self._weight.flatten().cumsum(0)
        while len(accepted) < n:
            count = 2 * (n - len(accepted)) + 16
            uniform = torch.rand(count, 4, generator=generator, dtype=torch.float64).cpu()
            node = torch.searchsorted(cumulative, uniform[:, 0] * cumulative[-1]).clamp_max(
                len(cumulative) - 1
            )
            corner = torch.stack([self._axes[0][node // NODES], self._axes[1][node % NODES]], 1)
            shift = (
                uniform[:, 1:3]
                - torch.rand(count, 2, generator=generator, dtype=torch.float64).cpu()
            )  # triangular on (-1, 1)
            x = corner + shift * self._steps
            # nodes convolved with the triangle kernel have the bilinear interpolant as density: it
            # is the proposal
            ratio = torch.exp(self.log_density(x)) / self._interpolated(x).clamp_min(1e-300)
            accepted = torch.cat([accepted, x[uniform[:, 3] * 1.25 < ratio]])
        return accepted[:n].to(self._like)

    def _interpolated(self, x: Tensor) -> Tensor:
        """The bilinear interpolant of the tabulated density, at points."""
        places = torch.stack(
            [(x[:, i] - self._axes[i][0]) / self._steps[i] for i in range(2)], 1
        ).clamp(0, NODES - 1 - 1e-9)
        low, part = places.long(), places.frac()
        total = torch.zeros(len(x), dtype=torch.float64)
        for i in (0, 1):
            for j in (0, 1):
                share = (part[:, 0] if i else 1 - part[:, 0]) * (
                    part[:, 1] if j else 1 - part[:, 1]
                )
                total += share * self._weight[low[:, 0] + i, low[:, 1] + j]
        return total / self._steps.prod()

    def _shrink(
        self, box: tuple[tuple[float, float], tuple[float, float]]
    ) -> list[tuple[float, float]]:
        """The part of the box that has mass."""
        axes, values = self._tabulate(box)
        inside = values > values.max() - DEPTH
        intervals = []
        for i, axis in enumerate(axes):
            used = torch.nonzero(inside.any(1 - i)).flatten()
            first, last = int(used[0]), int(used[-1])
            if first == 0 or last == NODES - 1:
                raise PflowError(
                    f"the posterior reaches the edge of the box {box} of its quadrature: the"
                    " observation is too extreme for it"
                )
            intervals.append(
                (float(axis[max(first - MARGIN, 0)]), float(axis[min(last + MARGIN, NODES - 1)]))
            )
        return intervals

    def _tabulate(self, box: Iterable[tuple[float, float]]) -> tuple[list[Tensor], Tensor]:
        axes = [torch.linspace(low, high, NODES, dtype=torch.float64) for low, high in box]
        return axes, self._log_joint(torch.cartesian_prod(*axes)).view(NODES, NODES)
