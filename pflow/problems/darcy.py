"""Darcy flow: the permeability of a rock from pressures in wells."""

from __future__ import annotations

from typing import Annotated

from pflow.operators.diffusion import Diffusion
from pflow.operators.points import inner_grid
from pflow.problems.prior_problem import PriorProblem
from pflow.problems.priors import MaternField
from pflow.problems.validation import checked_settings
from pflow.settings.declaration import setting

__all__ = ["Darcy"]

WELLS, INFLOW = 10, 10.0


class Darcy(PriorProblem):
    r"""Darcy flow: log-permeabilities from 100 pressures; finite elements on a fine and a coarse
    mesh.

    The log-permeability x of a square lives on side x side cells, flattened row by row; the
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
        side: cells along each side: the model has side * side parameters.
        std: standard deviation varsigma of x, the log-permeability, under the prior.
        length: correlation length ell, in sides of the square.
        noise_std: standard deviation of the noise on each pressure; the default is 2 % of the mean
            pressure of a homogeneous rock, x = 0.
        mesh: elements along each side at high fidelity, a multiple or a divisor of `side`.
        low_mesh: the same at low fidelity.

    Raises:
        PflowError: for impossible values.

    Example:
        >>> problem = Darcy()
        >>> problem.model_shape, problem.data_shape
        ((1024,), (100,))
    """

    name = "darcy"
    field_label = "log permeability"
    field_unit = "side"

    @staticmethod
    def model_shape_of(side: int) -> tuple[int, ...]:
        """The shape of one x."""
        return (side**2,)

    @checked_settings
    def __init__(
        self,
        side: Annotated[int, setting(minimum=4, maximum=64)] = 32,  # the prior is dense
        std: Annotated[float, setting(above=0)] = 1.0,
        length: Annotated[float, setting(above=0)] = 0.2,
        noise_std: Annotated[float, setting(above=0)] = 0.0083,
        mesh: Annotated[int, setting(minimum=4, maximum=256)] = 32,
        low_mesh: Annotated[int, setting(minimum=4, maximum=256)] = 16,
    ) -> None:
        low, high = (Diffusion(side, n, inner_grid(WELLS), INFLOW) for n in (low_mesh, mesh))
        super().__init__(
            prior=MaternField((side, side), length, nu=1.5, std=std, spacing=1 / side),
            low_fidelity=low,
            high_fidelity=high,
            noise_std=noise_std,
            parameter_names=[f"x[{row},{column}]" for row in range(side) for column in range(side)],
        )
        self.field_shape = (side, side)
        self.field_extent = (0.0, 1.0, 1.0, 0.0)  # left, right, bottom, top
