r"""The seed paper's first experiment: two parameters with a banana-shaped prior, observed through a
2x2 matrix.

The exact posterior needs a single one-dimensional quadrature. Given :math:`x_1`, the prior of
:math:`x_2` and the likelihood are both Gaussian in :math:`x_2`, so that with :math:`F(x) = a_1 x_1
+ a_2 x_2`

    p        = 2 + |a_2|^2 / sigma^2                                   precision of x2 given x1, y
    m(x1)    = (2 x1^2 + <a_2, y - a_1 x1> / sigma^2) / p              mean of x2 given x1, y;  a
             quadratic polynomial
    p(x1, y) = p(x1, x2 = m(x1), y) sqrt(2 pi / p)                     the exponential of a quartic
                                                                       polynomial

Source: Siahkoohi, Rizzuti, Louboutin, Witte, Herrmann, "Preconditioned training of normalizing
flows for variational inference in inverse problems", https://arxiv.org/abs/2101.03709.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from numpy.polynomial import Polynomial
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators import IdentityOperator, MatrixOperator, dense_matrix, unit_spectral_norm
from pflow.problems.base import Fidelity, Problem, standard_normal
from pflow.problems.validation import checked_settings, whole_number
from pflow.settings.declaration import setting

__all__ = ["Rosenbrock", "RosenbrockPosterior"]

# Beyond 50 nats below the peak lies less than 1e-21 of the mass. Over such a piece, 2^14 cells make
# the trapezoidal rule exact to
# rounding (the density and its derivatives vanish at both ends), and the distribution function
# linear in each cell to 1e-7.
DEPTH = 50.0
CELLS = 2**14


class Rosenbrock(Problem):
    r"""Two parameters, the Rosenbrock prior and a random 2x2 operator (the paper's first
    experiment).

    .. math::
        p(x) = \frac{1}{\sqrt{2} \pi} \exp\left(-\tfrac{1}{2} (x_1 - \mu)^2 - (x_2 - x_1^2)^2\right)

    for :math:`x = (x_1, x_2)`, that is :math:`x_1 \sim N(\mu, 1)` and
    :math:`x_2 \sim N(x_1^2, 1/2)`. The low-fidelity operator is the identity, the high-fidelity
    operator the matrix G + 3 I scaled to unit spectral norm, where G has standard normal elements.

    Arguments:
        noise_std: standard deviation of the independent Gaussian noise on y.
        mu: mean of x1 under the prior.
        operator_seed: seed of the random high-fidelity operator.

    Raises:
        PflowError: for impossible values.

    Example:
        >>> problem = Rosenbrock()
        >>> x, y = problem.simulate(3, torch.Generator().manual_seed(0))
        >>> x.shape, y.shape
        (torch.Size([3, 2]), torch.Size([3, 2]))
    """

    name = "rosenbrock"
    noise_std: float

    @staticmethod
    def model_shape_of() -> tuple[int, ...]:
        """The shape of one x."""
        return (2,)

    @checked_settings
    def __init__(
        self,
        noise_std: Annotated[float, setting(above=0)] = 0.4,
        mu: float = 0.0,
        operator_seed: Annotated[int, setting(minimum=0)] = 0,
    ) -> None:
        generator = torch.Generator().manual_seed(
            whole_number("operator_seed", operator_seed, minimum=0, maximum=2**63 - 1)
        )
        matrix = standard_normal((2, 2), generator) + 3 * torch.eye(2, dtype=torch.float64)
        super().__init__(
            low_fidelity=IdentityOperator(self.model_shape_of()),
            high_fidelity=MatrixOperator(unit_spectral_norm(matrix)),
            noise_std=noise_std,
            parameter_names=("x1", "x2"),
        )
        self.mu = mu

    def sample_prior(
        self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n 2"]:
        first, second = standard_normal((n, 2), generator).unbind(-1)
        first = self.mu + first
        return torch.stack([first, first.square() + math.sqrt(0.5) * second], -1).to(dtype)

    def log_prior(self, x: Float[Tensor, "batch 2"]) -> Float[Tensor, " batch"]:
        first, second = x.unbind(-1)
        return (
            -0.5 * (first - self.mu).square()
            - (second - first.square()).square()
            - math.log(math.sqrt(2) * math.pi)
        )

    def exact_posterior(
        self, y: Float[Tensor, "1 2"], fidelity: Fidelity = "high"
    ) -> RosenbrockPosterior:
        """The posterior, by quadrature over x1: see the top of this file."""
        return RosenbrockPosterior(
            dense_matrix(self.operator(fidelity)), self.noise_std, self.mu, self.observed(y)
        )


class RosenbrockPosterior:
    """An `ExactPosterior` under the Rosenbrock prior and any linear operator of two parameters.

    Arguments:
        matrix: F = (a_1, a_2).
        noise_std: sigma.
        mu: the prior mean of x1.
        y: the observation; its dtype and device are those of the results.

    Raises:
        PflowError: if the noise is so small, compared with y, that float64 cannot resolve the
            posterior.
    """

    def __init__(
        self,
        matrix: Float[Tensor, "data 2"],
        noise_std: float,
        mu: float,
        y: Float[Tensor, " data"],
    ) -> None:
        a1, a2 = matrix.double().cpu().numpy().T
        observation = y.double().cpu().numpy()
        smallest = 1e-5 * max(1.0, float(np.abs(observation).max()))
        if noise_std < smallest:
            raise PflowError(
                f"`problem.noise_std` (={noise_std}) must be at least {smallest:.1e} for this"
                " observation: float64 cannot resolve the exact posterior below; raise it"
            )
        x1 = Polynomial([0.0, 1.0])

        precision = 2 + a2 @ a2 / noise_std**2
        m = (2 * x1**2 + Polynomial([a2 @ observation, -(a2 @ a1)]) / noise_std**2) / precision
        misfit = sum(
            (datum - a1_k * x1 - a2_k * m) ** 2
            for datum, a1_k, a2_k in zip(observation, a1, a2, strict=True)
        )
        log_joint = (  # log p(x1, y)
            -0.5 * (x1 - mu) ** 2
            - (m - x1**2) ** 2
            - misfit / (2 * noise_std**2)
            - math.log(math.sqrt(2) * math.pi)
            - len(observation) * math.log(math.sqrt(2 * math.pi) * noise_std)
            + 0.5 * math.log(2 * math.pi / precision)
        )

        nodes = _support(log_joint)
        peak = log_joint(nodes).max()
        weight = np.exp(log_joint(nodes) - peak) * (nodes[:, 1:2] - nodes[:, :1])
        weight[:, [0, -1]] /= 2  # the trapezoidal rule
        self.log_evidence = float(peak + np.log(weight.sum()))
        weight /= weight.sum()
        mean = np.array([(weight * nodes).sum(), (weight * m(nodes)).sum()])
        deviation = np.stack([nodes - mean[0], m(nodes) - mean[1]])
        covariance = np.einsum("pn,apn,bpn->ab", weight, deviation, deviation) + np.diag(
            [0, 1 / precision]
        )

        self._log_marginal = log_joint - self.log_evidence  # log p(x1 given y)
        self._conditional_mean, self._conditional_std = m, precision**-0.5
        self._nodes = torch.from_numpy(nodes)
        self._like = y
        self.mean = torch.from_numpy(mean).to(y)
        self.covariance = torch.from_numpy(covariance).to(y)
        self.std = torch.from_numpy(covariance.diagonal() ** 0.5).to(y)

    def log_density(self, x: Float[Tensor, "batch 2"]) -> Float[Tensor, " batch"]:
        first, second = x.double().unbind(-1)
        w = (second - _evaluate(self._conditional_mean, first)) / self._conditional_std
        log_conditional = -0.5 * w.square() - math.log(
            math.sqrt(2 * math.pi) * self._conditional_std
        )
        return (_evaluate(self._log_marginal, first) + log_conditional).to(x.dtype)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n 2"]:
        """Independent draws: x1 by inversion of its distribution function, then x2 from its normal
        distribution.
        """
        left, right = self._nodes[:, :-1], self._nodes[:, 1:]
        density = _evaluate(self._log_marginal, self._nodes).exp()
        mass = ((right - left) * (density[:, :-1] + density[:, 1:]) / 2).flatten()
        total = mass.cumsum(0)

        device = torch.device("cpu") if generator is None else generator.device
        uniform = (
            torch.rand(n, generator=generator, dtype=torch.float64, device=device).cpu() * total[-1]
        )
        cell = torch.searchsorted(total, uniform, right=True).clamp_max(len(total) - 1)
        fraction = 1 - (total[cell] - uniform) / mass[cell]
        first = torch.lerp(left.flatten()[cell], right.flatten()[cell], fraction.clamp(0, 1))
        noise = standard_normal((n,), generator).cpu()
        second = _evaluate(self._conditional_mean, first) + self._conditional_std * noise
        return torch.stack([first, second], -1).to(self._like)


def _support(log_density: Polynomial) -> np.ndarray:
    """The one or two intervals where a quartic log density is within DEPTH of its peak, each with
    CELLS + 1 equidistant nodes.
    """
    peak = log_density(_real(log_density.deriv().roots())).max()
    ends = _real((log_density - (peak - DEPTH)).roots()).reshape(-1, 2)
    return np.linspace(ends[:, 0], ends[:, 1], CELLS + 1, axis=1)


def _real(roots: np.ndarray) -> np.ndarray:
    """The real ones among the roots of a real polynomial, in ascending order; others come in
    conjugate pairs.
    """
    return np.sort(roots.real[np.abs(roots.imag) <= 1e-9 * np.abs(roots)])


def _evaluate(polynomial: Polynomial, x: Tensor) -> Tensor:
    """The polynomial at each element of a tensor, by Horner's rule."""
    value = torch.zeros_like(x)
    for coefficient in reversed(polynomial.coef.tolist()):
        value = value * x + coefficient
    return value
