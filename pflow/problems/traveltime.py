"""Crosswell travel-time tomography: velocities between two wells from the first arrivals of sources
in one and receivers in the other.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators import Operator
from pflow.operators.composed import ComposedOperator
from pflow.operators.eikonal import Eikonal
from pflow.operators.rays import StraightRays
from pflow.operators.workers import Workers
from pflow.problems.crosswell import Crosswell, wells_of
from pflow.problems.validation import checked_settings
from pflow.settings.declaration import setting

__all__ = ["TravelTime"]


class TravelTime(Crosswell):
    r"""Crosswell travel-time tomography of log-velocities: straight rays, and the eikonal equation.

    The section between the wells has the velocity :math:`v = v_0 e^x` on side x side cells,
    flattened row by row, and

    .. math::
        x \sim N(0, C), \qquad C_{ij} = \varsigma^2 (1 + \sqrt 3 r_{ij} / \ell)\, e^{- \sqrt 3
        r_{ij} / \ell}

    a Matern field of smoothness 3/2, with :math:`r_{ij}` the distance of cells i and j,
    :math:`\varsigma` the standard deviation and :math:`\ell` the correlation length. Sources
    stand evenly in the left-most column of cells, receivers in the right-most one. The data are
    delays of first arrivals against the background v0, in milliseconds: at low fidelity along
    straight rays, at high fidelity by the eikonal equation, where rays bend towards high velocity.
    First arrivals are never later than along any other path, so straight rays find velocities too
    high, most of all where the field is rough.

    A nearer low fidelity, to choose, is the eikonal equation on cells of twice the side, each with
    the mean of x over its four cells.

    Flows are conditioned on the delays projected back along straight rays, an image of the shape of
    x.

    Arguments:
        side: cells along each side of the section: the model has side * side parameters.
        spacing_m: side of a cell in metres.
        velocity_m_s: background velocity v0 in metres per second.
        sources: sources in the left well.
        receivers: receivers in the right well.
        std: standard deviation of the logarithm of the velocity under the prior.
        length_m: correlation length of the prior (Matern, smoothness 3/2) in metres.
        noise_std: standard deviation of the noise on each delay in milliseconds.
        low_fidelity: `straight_rays`, or `coarse_eikonal`, the eikonal equation on half the
            resolution.
        workers: processes that share each batch of eikonal solves; results do not depend on it.

    Raises:
        PflowError: for impossible values.

    Example:
        >>> problem = TravelTime(side=8, sources=4, receivers=8)
        >>> problem.model_shape, problem.data_shape
        ((64,), (4, 8))
    """

    name = "traveltime"
    data_unit = "ms"

    @checked_settings
    def __init__(
        self,
        # The prior is dense: a side of 64 means 4096 x 4096.
        side: Annotated[int, setting(minimum=4, maximum=64)] = 16,
        spacing_m: Annotated[float, setting(above=0)] = 6.25,
        velocity_m_s: Annotated[float, setting(above=0)] = 2000.0,
        sources: Annotated[int, setting(minimum=1)] = 8,
        receivers: Annotated[int, setting(minimum=1)] = 16,
        std: Annotated[float, setting(above=0)] = 0.2,
        length_m: Annotated[float, setting(above=0)] = 10.0,
        noise_std: Annotated[float, setting(above=0)] = 1.0,
        low_fidelity: Literal["straight_rays", "coarse_eikonal"] = "straight_rays",
        workers: Annotated[int, setting(minimum=1, maximum=1024)] = 1,
    ) -> None:
        positions = {
            well: (cells.double() + 0.5) * spacing_m
            for well, cells in wells_of(side, sources, receivers).items()
        }
        geometry: dict[str, Any] = {
            "grid": (side, side),
            "spacing": spacing_m,
            "velocity": velocity_m_s,
            **positions,
        }
        self._rays = StraightRays(**geometry)
        eikonal: Operator = Eikonal(**geometry)
        coarse = low_fidelity == "coarse_eikonal"
        if workers > 1:
            eikonal = Workers(eikonal, workers)
        super().__init__(
            side,
            spacing_m,
            std,
            length_m,
            low_fidelity=_coarse_eikonal(**geometry) if coarse else self._rays,
            high_fidelity=eikonal,
            noise_std=noise_std,
        )

    def summary(self, y: Float[Tensor, "batch sources receivers"]) -> Float[Tensor, "batch cells"]:
        """Delays projected back along straight rays, an image about the size of x."""
        return self._rays.summary(y)


def _coarse_eikonal(
    grid: tuple[int, int], spacing: float, velocity: float, sources: Tensor, receivers: Tensor
) -> ComposedOperator:
    """The eikonal equation on cells of twice the side. A margin of one fine cell, which repeats
    its neighbour, keeps the wells between the centres of coarse cells.

    Raises:
        PflowError: if the side of the grid is odd.
    """
    side = grid[0]
    if side % 2:
        raise PflowError(
            f"`side` (={side}) must be even for `low_fidelity: coarse_eikonal`, whose cells are"
            " two by two: change it, or choose straight_rays"
        )
    half = (side // 2 + 1, side // 2 + 1)
    eikonal = Eikonal(half, 2 * spacing, sources + spacing, receivers + spacing, velocity)

    def means(x: Tensor) -> Tensor:
        image = x.reshape(-1, 1, *grid)
        image = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
        return torch.nn.functional.avg_pool2d(image, 2).flatten(1)

    return ComposedOperator(eikonal, means, (math.prod(grid),))
