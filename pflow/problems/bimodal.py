"""Two separated posterior modes: the data do not determine the sign of x1. Exact by quadrature."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.operators import Operator
from pflow.problems.base import Fidelity, Problem, standard_normal
from pflow.problems.quadrature import GridPosterior
from pflow.problems.validation import checked_settings
from pflow.settings.declaration import setting

__all__ = ["Bimodal", "FoldOperator"]


class FoldOperator(Operator):
    r"""The map :math:`F(x) = (\alpha x_1^2 + \gamma x_2,\; x_2)`.

    Arguments:
        curvature: alpha.
        coupling: gamma.
    """

    def __init__(self, curvature: float, coupling: float) -> None:
        super().__init__(model_shape=(2,), data_shape=(2,))
        self.curvature, self.coupling = curvature, coupling

    def forward(self, x: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch 2"]:
        first, second = x.unbind(-1)
        return torch.stack([self.curvature * first.square() + self.coupling * second, second], -1)


class Bimodal(Problem):
    r"""Two parameters whose posterior has two separated modes.

    :math:`x \sim N(0, I)` is seen through :math:`F(x) = (x_1^2 + 0.5 x_2, x_2)`, at low fidelity
    :math:`(0.8 x_1^2, x_2)`. For y1 well above the noise the posterior has one mode for each sign
    of x1.

    Arguments:
        noise_std: standard deviation of the independent Gaussian noise on y.

    Raises:
        PflowError: for impossible values.

    Example:
        >>> problem = Bimodal()
        >>> x, y = problem.simulate(3, torch.Generator().manual_seed(0))
        >>> x.shape, y.shape
        (torch.Size([3, 2]), torch.Size([3, 2]))
    """

    name = "bimodal"

    @staticmethod
    def model_shape_of() -> tuple[int, ...]:
        """The shape of one x."""
        return (2,)

    @checked_settings
    def __init__(self, noise_std: Annotated[float, setting(above=0)] = 0.3) -> None:
        super().__init__(
            low_fidelity=FoldOperator(0.8, 0.0),
            high_fidelity=FoldOperator(1.0, 0.5),
            noise_std=noise_std,
            parameter_names=("x1", "x2"),
        )

    def sample_prior(
        self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n 2"]:
        return standard_normal((n, 2), generator).to(dtype)

    def log_prior(self, x: Float[Tensor, "batch 2"]) -> Float[Tensor, " batch"]:
        return -0.5 * x.square().sum(-1) - math.log(2 * math.pi)

    def exact_posterior(
        self, y: Float[Tensor, "1 2"], fidelity: Fidelity = "high"
    ) -> GridPosterior:
        """The posterior, by quadrature in two dimensions."""
        observation, operator = self.observed(y).double().cpu(), self.operator(fidelity)
        box = ((-12.0, 12.0), (-12.0, 12.0))
        return GridPosterior(
            lambda x: self.log_likelihood(observation[None], operator(x)) + self.log_prior(x),
            box,
            y,
        )
