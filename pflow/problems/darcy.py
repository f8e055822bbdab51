"""Darcy flow: the permeability of a rock from pressures in wells."""

from __future__ import annotations

from pflow.operators.diffusion import Diffusion
from pflow.operators.points import inner_grid
from pflow.problems.prior_problem import PriorProblem
from pflow.problems.priors import MaternField
from pflow.problems.validation import whole_number

__all__ = ["Darcy"]

WELLS, INFLOW = 10, 10.0


class Darcy(PriorProblem):
    r"""The log-permeability x of a square section, on side x side cells, flattened row by row; the
    pressure u is measured at 10 x 10 points.

    .. math:: -\nabla \cdot (e^x \nabla u) = 10 \text{ in } (0, 1)^2, \qquad u = 0 \text{ on the
        edge}

    .. math::
        x \sim N(0, C), \qquad C_{ij} = \varsigma^2 (1 + \sqrt 3 r_{ij} / \ell)\, e^{- \sqrt 3
        r_{ij} / \ell}

    a Matern field of smoothness 3/2, with :math:`r_{ij}` the distance of cells i and j. Both
    fidelities are bilinear finite elements; an element larger than a cell has the geometric mean of
    its cells' permeabilities.

    Arguments:
        side: cells along each side.
        std: standard deviation of x under the prior, the symbol varsigma.
        length: correlation length ell, in sides of the square.
        noise_std: standard deviation of the noise on each pressure; the default is 2 % of the mean
            pressure of a homogeneous rock, x = 0.
        mesh: elements along each side at high fidelity, a multiple or a divisor of `side`.
        low_mesh: the same at low fidelity.

    Raises:
        PflowError: for impossible values.
    """

    name = "darcy"
    field_label = "log permeability"
    field_unit = "side"

    def __init__(
        self,
        side: int = 32,
        std: float = 1.0,
        length: float = 0.2,
        noise_std: float = 0.0083,
        mesh: int = 32,
        low_mesh: int = 16,
    ) -> None:
        side = whole_number("side", side, minimum=4, maximum=64)  # the prior is dense
        low, high = (
            Diffusion(
                side, whole_number(name, n, minimum=4, maximum=256), inner_grid(WELLS), INFLOW
            )
            for name, n in (("low_mesh", low_mesh), ("mesh", mesh))
        )
        super().__init__(
            prior=MaternField((side, side), length, nu=1.5, std=std, spacing=1 / side),
            low_fidelity=low,
            high_fidelity=high,
            noise_std=noise_std,
            parameter_names=[f"x[{row},{column}]" for row in range(side) for column in range(side)],
        )
        self.field_shape = (side, side)
        self.field_extent = (0.0, 1.0, 1.0, 0.0)  # left, right, bottom, top
