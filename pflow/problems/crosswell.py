"""The base of all tomography between two wells: a square section, the prior of its velocities, and
the positions of the wells.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from pflow.operators import Operator
from pflow.problems.prior_problem import PriorProblem
from pflow.problems.priors import MaternField
from pflow.problems.validation import whole_number

__all__ = ["Crosswell", "wells_of"]


class Crosswell(PriorProblem):
    r"""The log-velocity of a square section of the earth, :math:`v = v_0 e^x` on side x side cells,
    flattened row by row.

    .. math::
        x \sim N(0, C), \qquad C_{ij} = \varsigma^2 (1 + \sqrt 3 r_{ij} / \ell)\, e^{- \sqrt 3
        r_{ij} / \ell}

    a Matern field of smoothness 3/2, with :math:`r_{ij}` the distance of cells i and j. Flows are
    conditioned on an image of the shape of x.

    Arguments:
        side: cells along each side.
        spacing_m: side of a cell in metres.
        std: standard deviation of x under the prior, the symbol varsigma.
        length_m: correlation length ell in metres.
        low_fidelity, high_fidelity, noise_std: as in `PriorProblem`.
    """

    field_label = "log velocity, ln(v / v0)"
    field_unit = "m"
    field_colours = "RdBu"  # red is slow, as everywhere in tomography

    @staticmethod
    def model_shape_of(side: int) -> tuple[int, ...]:
        """The shape of one x."""
        return (side**2,)

    def __init__(
        self,
        side: int,
        spacing_m: float,
        std: float,
        length_m: float,
        low_fidelity: Operator,
        high_fidelity: Operator,
        noise_std: float,
    ) -> None:
        super().__init__(
            prior=MaternField((side, side), length_m, nu=1.5, std=std, spacing=spacing_m),
            low_fidelity=low_fidelity,
            high_fidelity=high_fidelity,
            noise_std=noise_std,
            parameter_names=[f"x[{row},{column}]" for row in range(side) for column in range(side)],
        )
        self.field_shape = (side, side)
        self.field_extent = (
            0.0,
            side * spacing_m,
            side * spacing_m,
            0.0,
        )  # left, right, bottom, top

    @property
    def summary_shape(self) -> tuple[int, ...]:
        return self.model_shape


def wells_of(side: int, sources: int, receivers: int) -> dict[str, Int[Tensor, "count 2"]]:
    """(row, column) of the cells of sources, spread evenly over the left-most column, and of
    receivers, over the right-most one.
    """
    return {
        "sources": _well(whole_number("sources", sources, minimum=1, maximum=side), side, column=0),
        "receivers": _well(
            whole_number("receivers", receivers, minimum=1, maximum=side), side, column=side - 1
        ),
    }


def _well(count: int, side: int, column: int) -> Int[Tensor, "count 2"]:
    rows = torch.linspace(0, side - 1, count, dtype=torch.float64).round().long()
    return torch.stack([rows, torch.full_like(rows, column)], 1)
