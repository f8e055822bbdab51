"""A positive random field seen through a matrix: nonlinear in any dimension, without an exact
posterior.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.operators import IdentityOperator, MatrixOperator, Operator
from pflow.problems.gaussian import Gaussian
from pflow.problems.prior_problem import PriorProblem
from pflow.problems.validation import checked_settings
from pflow.settings.declaration import setting

__all__ = ["ExponentialOperator", "LogNormal"]


class ExponentialOperator(Operator):
    r"""The map :math:`F(x) = B\,(e^{a x} - 1) / a`, which is B x for small a.

    Arguments:
        matrix: B.
        strength: a.
    """

    def __init__(self, matrix: Float[Tensor, "data model"], strength: float) -> None:
        super().__init__(model_shape=(matrix.shape[1],), data_shape=(matrix.shape[0],))
        self.matrix, self.strength = MatrixOperator(matrix), strength

    def forward(self, x: Float[Tensor, "batch model"]) -> Float[Tensor, "batch data"]:
        return self.matrix(torch.expm1(self.strength * x) / self.strength)


class LogNormal(PriorProblem):
    r"""A positive random field seen through a matrix: nonlinear in any dimension, without an exact
    posterior.

    The problem `Gaussian` with :math:`F(x) = B (e^{a x} - 1) / a` instead of B x, where a is the
    strength; at low fidelity the identity.

    Parameters that must be positive, such as a conductivity or a slowness, are modelled by their
    logarithm, and this is the nonlinearity that follows.

    Arguments:
        side: points along each side of the grid: the model has side * side parameters.
        length: correlation length of the prior, in grid points.
        noise_std: standard deviation of the independent Gaussian noise on y.
        strength: how nonlinear the operator is.
        operator_seed: seed of the random high-fidelity operator.

    Raises:
        PflowError: for impossible values.

    Example:
        >>> problem = LogNormal(side=4)
        >>> x, y = problem.simulate(3, torch.Generator().manual_seed(0))
        >>> x.shape, y.shape
        (torch.Size([3, 16]), torch.Size([3, 16]))
    """

    name = "lognormal"

    @staticmethod
    def model_shape_of(side: int) -> tuple[int, ...]:
        """The shape of one x."""
        return (side**2,)

    @checked_settings
    def __init__(
        self,
        side: Annotated[int, setting(minimum=1, maximum=64)] = 8,
        length: Annotated[float, setting(above=0)] = 1.5,
        noise_std: Annotated[float, setting(above=0)] = 0.4,
        strength: Annotated[float, setting(above=0)] = 0.5,
        operator_seed: Annotated[int, setting(minimum=0)] = 3,
    ) -> None:
        gaussian = Gaussian(
            side=side, length=length, noise_std=noise_std, operator_seed=operator_seed
        )
        super().__init__(
            prior=gaussian.prior,
            low_fidelity=IdentityOperator(self.model_shape_of(side)),
            high_fidelity=ExponentialOperator(gaussian.high_fidelity.matrix, strength),
            noise_std=noise_std,
            parameter_names=gaussian.parameter_names,
        )
