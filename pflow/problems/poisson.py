"""The benchmark of Aristoff and Bangerth: the stiffness of a membrane from its deflection."""

from __future__ import annotations

from typing import Annotated

import torch

from pflow.operators.diffusion import Diffusion
from pflow.operators.points import inner_grid
from pflow.problems.normal import Normal
from pflow.problems.prior_problem import PriorProblem
from pflow.problems.validation import checked_settings
from pflow.settings.declaration import setting

__all__ = ["Poisson"]

SIDE, POINTS, LOAD = 8, 13, 10.0
PRIOR_MEAN, PRIOR_STD = 4.0, 2.0


class Poisson(PriorProblem):
    r"""The benchmark of Aristoff and Bangerth: 64 coefficients of a Poisson equation from 169
    values of its solution.

    The parameters x are the logarithms of coefficients that are constant on 8 x 8 squares; the
    solution is measured at 13 x 13 points.

    .. math:: -\nabla \cdot (e^x \nabla u) = 10 \text{ in } (0, 1)^2, \qquad u = 0 \text{ on the
        edge}, \qquad x \sim N(4, 2^2 I)

    The published prior of the coefficients :math:`\theta = e^x` is proportional to :math:`\exp(-
    \ln^2 \theta / 8)`, a density of theta. As a density of x it has the factor :math:`d \theta / d
    x = e^x`, and :math:`-x^2 / 8 + x = -(x - 4)^2 / 8 + 2`: hence the mean 4.

    Both fidelities are bilinear finite elements, at high fidelity on the mesh of the publication.
    Coefficients and points are in its order: coefficient i + 8 j is that of square i across and j
    along, and points follow each other along.

    Reference:
        | A benchmark for the Bayesian inversion of coefficients in partial differential equations
        (Aristoff, Bangerth, 2023), https://arxiv.org/abs/2102.07263

    Arguments:
        noise_std: standard deviation of the noise on each measured value.
        mesh: elements along each side at high fidelity, a multiple of 8; the publication has 32.
        low_mesh: the same at low fidelity; 16 is a good approximation, 8 a poor one.

    Raises:
        PflowError: for impossible values.

    Example:
        >>> problem = Poisson()
        >>> problem.model_shape, problem.data_shape
        ((64,), (169,))
    """

    name = "poisson"
    field_label = "log coefficient, ln theta"
    field_unit = "side"

    @staticmethod
    def model_shape_of() -> tuple[int, ...]:
        """The shape of one x."""
        return (64,)

    @checked_settings
    def __init__(
        self,
        noise_std: Annotated[float, setting(above=0)] = 0.05,
        mesh: Annotated[int, setting(minimum=8, maximum=256)] = 32,
        low_mesh: Annotated[int, setting(minimum=8, maximum=256)] = 16,
    ) -> None:
        low, high = (Diffusion(SIDE, n, inner_grid(POINTS), LOAD) for n in (low_mesh, mesh))
        identity = torch.eye(SIDE**2, dtype=torch.float64)
        super().__init__(
            prior=Normal(
                torch.full((SIDE**2,), PRIOR_MEAN), PRIOR_STD * identity, identity / PRIOR_STD
            ),
            low_fidelity=low,
            high_fidelity=high,
            noise_std=noise_std,
            parameter_names=[f"x[{row},{column}]" for row in range(SIDE) for column in range(SIDE)],
        )
        self.field_shape = (SIDE, SIDE)
        self.field_extent = (0.0, 1.0, 1.0, 0.0)  # left, right, bottom, top
