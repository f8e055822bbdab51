r"""Stationary Gaussian images, and their posteriors under linear observations.

With F the unitary DFT over height and width, the prior :math:`x \sim N(0, \Sigma)`, :math:`\Sigma =
F^* \mathrm{diag}(S) F`, has one number for each frequency, its spectrum S: the variance of that
frequency's coefficient. Edges are periodic. For an observation
:math:`y = A x + \sigma \epsilon` and :math:`K = A \Sigma A^\top + \sigma^2 I`,

    mean        E[x given y] = Sigma A^T K^-1 y
    samples     x0 + Sigma A^T K^-1 (y - A x0 - sigma e0)    with x0 ~ prior, e0 ~ N(0, I)
                (Matheron's rule)
    evidence    log p(y) = log N(y; 0, K)

For small images K has a Cholesky factor, which gives the determinant as well. For large ones
Sigma A^T K^-1 = P^-1 A^T / sigma^2 with the precision P = A^T A / sigma^2 + Sigma^-1, and conjugate
gradients need the products of P alone. With F^* diag(M) F, 1 / M = 1 / S + g / sigma^2, on both
sides of it, where g is the average eigenvalue of A^T A, tens of steps do where there were thousands
without.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators import Constant, Operator
from pflow.problems.noise import standard_normal

__all__ = [
    "StationaryGaussian",
    "StationaryPosterior",
    "conjugate_gradients",
    "estimate_spectrum",
    "filtered",
    "floored",
    "periodogram",
]

FLOOR = 1e-3  # of the average spectrum: no frequency has zero variance
DENSE = 4096  # data up to which K has a Cholesky factor
MOMENT_DRAWS = 1024  # for the standard deviation without that factor, to 2 %
AT_ONCE = 2**18  # elements of the right-hand sides of one batch: more do not fit into caches
PROBES = 8  # images of white noise that tell the average eigenvalue of A^T A


def periodogram(images: Float[Tensor, "n *model"]) -> Float[Tensor, "*model"]:
    """Average square of each frequency's coefficient, in float64."""
    return torch.fft.fft2(images.double(), norm="ortho").abs().square().mean(0)


def floored(spectrum: Float[Tensor, "*model"]) -> Float[Tensor, "*model"]:
    """The spectrum, at least `FLOOR` of its average over frequencies."""
    return spectrum.clamp_min(FLOOR * float(spectrum.mean()))


def estimate_spectrum(images: Float[Tensor, "n *model"]) -> Float[Tensor, "*model"]:
    """The spectrum of the images: their periodogram, floored."""
    return floored(periodogram(images))


def filtered(
    images: Float[Tensor, "batch *model"], gain: Float[Tensor, "*model"]
) -> Float[Tensor, "batch *model"]:
    """F^* diag(gain) F times each image, for a gain that is symmetric in frequency."""
    return torch.fft.ifft2(gain * torch.fft.fft2(images)).real


class StationaryGaussian:
    """The `Prior` N(0, Sigma) of images; computed in the dtype and on the device of its input.

    Arguments:
        spectrum: S, (channels, height, width), positive; of real images, so symmetric in frequency.

    Raises:
        PflowError: for a spectrum that is not positive.
    """

    def __init__(self, spectrum: Float[Tensor, "*model"]) -> None:
        if not (spectrum > 0).all():
            raise PflowError(
                "the spectrum of a stationary Gaussian prior must be positive at each frequency:"
                " estimate it with `estimate_spectrum`"
            )
        self.shape = tuple(spectrum.shape)
        self._spectrum, self._amplitude = Constant(spectrum), Constant(spectrum.double().sqrt())
        self._log_peak = -0.5 * float((2 * math.pi * spectrum.double()).log().sum())

    @property
    def spectrum(self) -> Float[Tensor, "*model"]:
        """S, in float64."""
        return self._spectrum.value

    def log_density(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, " batch"]:
        """log N(x; 0, Sigma)."""
        white = torch.fft.fft2(x, norm="ortho").abs().square() / self._spectrum.like(x)
        return self._log_peak - 0.5 * white.flatten(1).sum(1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n *model"]:
        """Independent draws in float64, on the generator's device."""
        return self.root_times(standard_normal((n, *self.shape), generator))

    def root_times(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *model"]:
        """The symmetric square root of Sigma times x."""
        return filtered(x, self._amplitude.like(x))

    def covariance_times(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *model"]:
        """Sigma x."""
        return filtered(x, self._spectrum.like(x))


class StationaryPosterior:
    """The exact posterior of one observation: an `ExactPosterior` without a dense covariance.

    Arguments:
        prior: of the image.
        operator: A, linear.
        noise_std: sigma.
        y: the observation, (*data); its dtype is that of the results.
        dense: data up to which K is factorised.

    `log_evidence` is None, and `log_density` unknown, for more data than that.

    Attributes:
        tell: called after each batch of draws with their number.
        moment_draws: that `std` makes; 0 where it is exact.
    """

    def __init__(
        self,
        prior: StationaryGaussian,
        operator: Operator,
        noise_std: float,
        y: Float[Tensor, "*data"],
        dense: int = DENSE,
    ) -> None:
        if not operator.linear:
            raise PflowError(
                "a Gaussian posterior needs a linear operator, and"
                f" `{type(operator).__name__}.linear` is False"
            )
        self.prior, self.operator, self.noise_std, self.like = prior, operator, noise_std, y
        self.y = y.double()[None]
        self.size = y.numel()
        self.at_once = max(1, AT_ONCE // math.prod(prior.shape))
        self.factor = self._factor() if self.size <= dense else None
        self.log_evidence = None if self.factor is None else self._log_evidence(self.factor)
        self.moment_draws = MOMENT_DRAWS if self.factor is None else 0
        self.tell: Callable[[int], None] = lambda count: None

    @cached_property
    def mean(self) -> Float[Tensor, "*model"]:
        return self._correction(self.y)[0].to(self.like)

    @cached_property
    def std(self) -> Float[Tensor, "*model"]:
        """Exact with a factor, otherwise that of many draws."""
        if self.factor is None:
            return self.sample(self.moment_draws, torch.Generator().manual_seed(0)).std(0)
        size = math.prod(self.prior.shape)
        variance = torch.empty(size, dtype=torch.float64)
        for first in range(0, size, self.at_once):
            chosen = torch.arange(first, min(size, first + self.at_once))
            unit = (
                torch.zeros(len(chosen), size, dtype=torch.float64)
                .scatter_(1, chosen[:, None], 1.0)
                .view(-1, *self.prior.shape)
            )
            of_prior = self.prior.covariance_times(unit)
            seen = torch.linalg.solve_triangular(
                self.factor, self.operator(of_prior).flatten(1).T, upper=False
            )
            variance[chosen] = of_prior.flatten(1)[
                torch.arange(len(chosen)), chosen
            ] - seen.square().sum(0)
        return variance.clamp_min(0).sqrt().view(self.prior.shape).to(self.like)

    def log_density(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, " batch"]:
        """log p(x given y) = log p(y given x) + log p(x) - log p(y).

        Raises:
            PflowError: for too many data to know the evidence.
        """
        if self.log_evidence is None:
            raise PflowError(
                f"the posterior density of {self.size} data is not normalised: its evidence is"
                f" computed up to {DENSE} data"
            )
        wide = x.double()
        misfit = (self.y - self.operator(wide)).flatten(1).square().sum(1) / self.noise_std**2
        log_likelihood = -0.5 * misfit - self.size * (
            math.log(self.noise_std) + 0.5 * math.log(2 * math.pi)
        )
        return (log_likelihood + self.prior.log_density(wide) - self.log_evidence).to(x.dtype)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n *model"]:
        """Independent draws, by Matheron's rule."""
        draws = []
        for first in range(0, n, self.at_once):
            x = self.prior.sample(min(self.at_once, n - first), generator)
            noise = self.noise_std * standard_normal((len(x), *self.like.shape), generator)
            draws.append((x + self._correction(self.y - self.operator(x) - noise)).to(self.like))
            self.tell(len(x))
        return torch.cat(draws)

    def _correction(self, data: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *model"]:
        """Sigma A^T K^-1 data."""
        if self.factor is None:
            return self._by_conjugate_gradients(data)
        weights = torch.cholesky_solve(data.flatten(1).T, self.factor).T.reshape(data.shape)
        return self.prior.covariance_times(self.operator.adjoint(weights))

    def _by_conjugate_gradients(
        self, data: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *model"]:
        """P^-1 A^T data / sigma^2."""
        root, variance = self._preconditioner, self.noise_std**2
        of_prior = root.square() / self.prior.spectrum

        def times(v: Tensor) -> Tensor:
            seen = self.operator.adjoint(self.operator(filtered(v, root))) / variance
            return filtered(seen, root) + filtered(v, of_prior)

        pulled = filtered(self.operator.adjoint(data) / variance, root)
        return filtered(conjugate_gradients(times, pulled), root)

    @cached_property
    def _preconditioner(self) -> Float[Tensor, "*model"]:
        """The square root of M; g comes from the images of white noise."""
        probe = standard_normal((PROBES, *self.prior.shape), torch.Generator().manual_seed(0))
        gain = self.operator(probe).square().sum() / probe.numel()
        return (1 / self.prior.spectrum + gain / self.noise_std**2).rsqrt()

    def _k_times(self, v: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        return (
            self.operator(self.prior.covariance_times(self.operator.adjoint(v)))
            + self.noise_std**2 * v
        )

    def _factor(self) -> Float[Tensor, "size size"]:
        unit = torch.eye(self.size, dtype=torch.float64).view(self.size, *self.like.shape)
        k = torch.cat([self._k_times(part).flatten(1) for part in unit.split(self.at_once)])
        return torch.linalg.cholesky((k + k.T) / 2)

    def _log_evidence(self, factor: Float[Tensor, "size size"]) -> float:
        white = torch.linalg.solve_triangular(factor, self.y.reshape(-1, 1), upper=False)
        return float(
            -0.5 * white.square().sum()
            - factor.diagonal().log().sum()
            - 0.5 * self.size * math.log(2 * math.pi)
        )


def conjugate_gradients(
    times, data: Float[Tensor, "batch *data"], tolerance: float = 1e-8, steps: int = 2000
) -> Float[Tensor, "batch *data"]:
    """The solutions of K v = data for a positive definite K, each to |residual| <= tolerance
    |data|.

    Arguments:
        times: v -> K v, batch first.
        data: right-hand sides, (batch, *data).
        tolerance: of the residual, relative to the data.
        steps: the largest number of steps.

    Raises:
        PflowError: if `steps` are not enough.
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))

    solution, residual, direction = torch.zeros_like(data), data, data
    size = dot(residual, residual)
    goal = tolerance**2 * size
    for _ in range(steps):
        if (size <= goal).all():
            return solution
        image = times(direction)
        step = torch.where(size > goal, size / dot(direction, image), 0.0)
        solution, residual = solution + step * direction, residual - step * image
        new = dot(residual, residual)
        direction, size = residual + torch.where(size > goal, new / size, 0.0) * direction, new
    raise PflowError(
        f"conjugate gradients did not reach a residual of {tolerance:g} in {steps} steps: the noise"
        " is very small beside the prior; raise `noise_std`"
    )
