"""A Gaussian random field seen through linear operators: the posterior is exact in any
dimension.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.operators import IdentityOperator, MatrixOperator, dense_matrix
from pflow.problems.base import Fidelity
from pflow.problems.normal import LinearGaussianPosterior, linear_gaussian_posterior
from pflow.problems.prior_problem import PriorProblem
from pflow.problems.priors import MaternField
from pflow.problems.validation import checked_settings, whole_number
from pflow.settings.declaration import setting

__all__ = ["Gaussian"]


class Gaussian(PriorProblem):
    r"""Correlated Gaussian prior on a square grid with dense linear operators: the posterior is
    exact in any dimension.

    x is a smooth random field on side x side points, flattened row by row:

    .. math::
        x \sim N(0, C), \qquad C_{ij} = \exp\left(- \frac{|r_i - r_j|^2}{2 \ell^2}\right) + \tau
        \delta_{ij}

    with r_i the grid points and ell the correlation length. The low-fidelity operator is the
    identity, the high-fidelity operator the dense matrix :math:`B = 0.8 I + 0.5 G / \mathrm{side}`,
    where G has standard normal elements.

    Arguments:
        side: points along each side of the grid: the model has side * side parameters.
        length: correlation length of the prior, in grid points.
        noise_std: standard deviation of the independent Gaussian noise on y.
        operator_seed: seed of the random high-fidelity operator.

    Attributes:
        jitter: variance tau of the rough part of the field; it also keeps C well conditioned.

    Raises:
        PflowError: for impossible values.

    Example:
        >>> problem = Gaussian(side=4)
        >>> x, y = problem.simulate(3, torch.Generator().manual_seed(0))
        >>> x.shape, y.shape
        (torch.Size([3, 16]), torch.Size([3, 16]))
    """

    name = "gaussian"
    prior: MaternField
    high_fidelity: MatrixOperator
    noise_std: float
    jitter: ClassVar[float] = 1e-2

    @staticmethod
    def model_shape_of(side: int) -> tuple[int, ...]:
        """The shape of one x."""
        return (side**2,)

    @checked_settings
    def __init__(
        self,
        # Matrices are dense: a side of 64 means 4096 x 4096, 134 MB each.
        side: Annotated[int, setting(minimum=1, maximum=64)] = 8,
        length: Annotated[float, setting(above=0)] = 1.5,
        noise_std: Annotated[float, setting(above=0)] = 0.4,
        operator_seed: Annotated[int, setting(minimum=0)] = 3,
    ) -> None:
        generator = torch.Generator().manual_seed(
            whole_number("operator_seed", operator_seed, minimum=0, maximum=2**63 - 1)
        )
        (size,) = self.model_shape_of(side)
        # Drawn in float32: draws in float64 would give other matrices for the same seed.
        disturbance = torch.randn(size, size, generator=generator).double()
        super().__init__(
            prior=MaternField((side, side), length, nu=math.inf, jitter=self.jitter),
            low_fidelity=IdentityOperator((size,)),
            high_fidelity=MatrixOperator(
                0.8 * torch.eye(size, dtype=torch.float64) + 0.5 * disturbance / side
            ),
            noise_std=noise_std,
            parameter_names=[f"x[{row},{column}]" for row in range(side) for column in range(side)],
        )

    def exact_posterior(
        self, y: Float[Tensor, "1 size"], fidelity: Fidelity = "high"
    ) -> LinearGaussianPosterior:
        """The posterior, by linear algebra: see `pflow.problems.normal`."""
        matrix = dense_matrix(self.operator(fidelity))
        return linear_gaussian_posterior(self.prior.root, matrix, self.noise_std, self.observed(y))
