"""Noise with heavy tails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pflow.operators import Constant
from pflow.problems.noise.base import Noise, device_of, positive_everywhere
from pflow.problems.validation import positive_number

__all__ = ["StudentTNoise"]


class StudentTNoise(Noise):
    r"""Independent noise with heavy tails, for data with outliers: :math:`r_k = \sigma_k t_k`, t of
    Student's distribution.

    .. math::
        p(t) = \frac{\Gamma((\nu + 1) / 2)}{\Gamma(\nu / 2) \sqrt{\pi \nu}} \left(1 +
        \frac{t^2}{\nu}\right)^{-(\nu + 1) / 2}

    Whitening goes through the distribution functions, :math:`w = \Phi^{-1}(T_\nu(r / \sigma))`: an
    outlier changes chi-square little, and no variance, which may not exist, is needed. Draws:
    Bailey, "Polar generation of random variates with the t-distribution", Mathematics of
    Computation 62 (1994).

    Arguments:
        shape: the shape of one observation.
        degrees: nu, the degrees of freedom; 4 is a usual choice, infinity would be Gaussian noise.
        scale: sigma, one positive number for all data, or a tensor that broadcasts to `shape`.

    Raises:
        PflowError: if `degrees` or a scale is not positive.

    Example:
        >>> noise = StudentTNoise((1,), degrees=4.0, scale=1.0)
        >>> float(noise.whiten(torch.tensor([[10.0]]))) < 4.0  # an outlier moves chi-square little
        True
    """

    def __init__(
        self, shape: Sequence[int], degrees: float, scale: float | Float[Tensor, "*data"]
    ) -> None:
        super().__init__(shape)
        self.degrees = positive_number("degrees", degrees)
        self._scale = Constant(
            positive_everywhere("scale", torch.as_tensor(scale, dtype=torch.float64), self.shape)
        )
        self._peak = (
            math.lgamma((self.degrees + 1) / 2)
            - math.lgamma(self.degrees / 2)
            - 0.5 * math.log(math.pi * self.degrees)
        )
        self._log_peak = self.size * self._peak - self._scale.value.log().sum().item()

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        drawn_in: torch.dtype = torch.float64,
    ) -> Float[Tensor, "n *data"]:
        uniform = torch.rand(
            2, n, *self.shape, generator=generator, dtype=drawn_in, device=device_of(generator)
        )
        radius = (self.degrees * torch.expm1(-2 / self.degrees * torch.log1p(-uniform[0]))).sqrt()
        return self._scale.like(uniform.to(dtype)) * (
            radius * torch.cos(2 * math.pi * uniform[1])
        ).to(dtype)

    def log_likelihood(self, residual: Float[Tensor, "batch *data"]) -> Float[Tensor, " batch"]:
        t = residual / self._scale.like(residual)
        return self._log_peak - 0.5 * (self.degrees + 1) * torch.log1p(
            t.square() / self.degrees
        ).flatten(1).sum(1)

    def log_likelihood_each(
        self, residual: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *data"]:
        scale = self._scale.like(residual)
        tails = torch.log1p((residual / scale).square() / self.degrees)
        return self._peak - scale.log() - 0.5 * (self.degrees + 1) * tails

    def whiten(self, residual: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        return _NormalScore.apply(residual / self._scale.like(residual), self.degrees)

    def marginal(self, index: Int[Tensor, " kept"]) -> StudentTNoise:
        return StudentTNoise((len(index),), self.degrees, self._scale.value.flatten()[index])


class _NormalScore(torch.autograd.Function):
    """w(t) = Phi^-1(T_nu(t)), with dw/dt = p(t) / phi(w)."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, degrees: float) -> Tensor:
        from scipy import special, stats

        tail = t.detach().double().cpu().numpy()
        # Both functions are most accurate below zero, where probabilities are small numbers and not
        # nearly one.
        w = special.ndtri(special.stdtr(degrees, -abs(tail)))
        slope = stats.t.pdf(tail, degrees) / stats.norm.pdf(w)
        ctx.save_for_backward(torch.from_numpy(slope).to(t))
        return -torch.from_numpy(w).to(t) * t.sign()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None]:
        return v * ctx.saved_tensors[0], None
