"""Correlated Gaussian noise: a full covariance, or a few common causes on top of independent
noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators import Constant
from pflow.problems.noise.base import GaussianNoise, positive_everywhere

__all__ = ["CovarianceNoise", "LowRankNoise", "real_covariance"]


class CovarianceNoise(GaussianNoise):
    r"""Gaussian noise with any covariance, :math:`r \sim N(0, C)`.

    Arguments:
        shape: the shape of one observation, of m data.
        covariance: C over the flattened data, (m, m).

    Raises:
        PflowError: if C is not a symmetric, positive definite matrix of that size.

    Example:
        >>> noise = CovarianceNoise((2,), torch.tensor([[4.0, 0.0], [0.0, 1.0]]))
        >>> noise.whiten(torch.ones(1, 2)).square().sum()
        tensor(1.2500)
    """

    def __init__(self, shape: Sequence[int], covariance: Float[Tensor, "m m"]) -> None:
        super().__init__(shape)
        if tuple(covariance.shape) != (self.size, self.size):
            raise PflowError(
                f"the noise covariance must have the shape {(self.size, self.size)} for data of"
                f" shape {self.shape}, and has {tuple(covariance.shape)}: give one row and one"
                " column a datum, in the order of the flattened y"
            )
        self._covariance = covariance.detach().double().clone()
        if not torch.allclose(
            self._covariance,
            self._covariance.T,
            rtol=1e-6,
            atol=1e-12 * float(self._covariance.abs().max()),
        ):
            raise PflowError(
                "the noise covariance must be symmetric, and differs from its transpose: use (C +"
                " C.T) / 2"
            )
        root, failed = torch.linalg.cholesky_ex(self._covariance)
        if failed:
            raise PflowError(
                "the noise covariance must be positive definite, and is not: add a small multiple"
                " of the identity"
            )
        self._root, self.log_determinant = Constant(root), root.diagonal().log().sum().item()
        self._whitening = Constant(
            torch.linalg.solve_triangular(
                root, torch.eye(self.size, dtype=torch.float64), upper=False
            )
        )

    def colour(self, white: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        return (white.flatten(1) @ self._root.like(white).T).reshape(white.shape)

    def whiten(self, residual: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        return (residual.flatten(1) @ self._whitening.like(residual).T).reshape(residual.shape)

    def marginal(self, index: Int[Tensor, " kept"]) -> CovarianceNoise:
        return CovarianceNoise((len(index),), self._covariance[index][:, index])


class LowRankNoise(GaussianNoise):
    r"""Gaussian noise with a few common causes: :math:`r \sim N(0, U U^\top + D)`, D diagonal.

    With :math:`D^{-1/2} U = Q s W^\top` (thin SVD), S is :math:`D^{1/2} (I + Q (\sqrt{1 + s^2} - 1)
    Q^\top)`: memory and time go with m times the rank.

    Arguments:
        shape: the shape of one observation, of m data.
        factor: U over the flattened data, (m, rank).
        variance: the diagonal of D, one positive number or a tensor that broadcasts to `shape`.

    Raises:
        PflowError: if U has the wrong size or is not finite, or a variance is not positive.

    Example:
        >>> noise = LowRankNoise((2,), torch.tensor([[1.0], [1.0]]), 1.0)  # C = [[2, 1], [1, 2]]
        >>> noise.whiten(torch.ones(1, 2)).square().sum()
        tensor(0.6667)
    """

    def __init__(
        self,
        shape: Sequence[int],
        factor: Float[Tensor, "m rank"],
        variance: float | Float[Tensor, "*data"],
    ) -> None:
        super().__init__(shape)
        if factor.ndim != 2 or len(factor) != self.size or not factor.isfinite().all():
            raise PflowError(
                f"`factor` of the noise must be finite, with the shape ({self.size}, rank), and has"
                f" {tuple(factor.shape)}: one row a datum"
            )
        self._factor = factor.detach().double().clone()
        self._variance = positive_everywhere(
            "variance", torch.as_tensor(variance, dtype=torch.float64), self.shape
        ).flatten()
        directions, s, _ = torch.linalg.svd(
            self._factor / self._variance.sqrt()[:, None], full_matrices=False
        )
        self._std, self._directions = Constant(self._variance.sqrt()), Constant(directions)
        self._gain, self._loss = Constant((1 + s**2).sqrt() - 1), Constant((1 + s**2).rsqrt() - 1)
        self.log_determinant = 0.5 * (self._variance.log().sum() + torch.log1p(s**2).sum()).item()

    def colour(self, white: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        return (self._std.like(white) * self._stretch(white.flatten(1), self._gain)).reshape(
            white.shape
        )

    def whiten(self, residual: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        return self._stretch(residual.flatten(1) / self._std.like(residual), self._loss).reshape(
            residual.shape
        )

    def marginal(self, index: Int[Tensor, " kept"]) -> LowRankNoise:
        return LowRankNoise((len(index),), self._factor[index], self._variance[index])

    def _stretch(
        self, white: Float[Tensor, "batch m"], change: Constant
    ) -> Float[Tensor, "batch m"]:
        """(I + Q change Q^T) w."""
        directions = self._directions.like(white)
        return white + (white @ directions * change.like(white)) @ directions.T


def real_covariance(covariance: Tensor) -> Float[Tensor, "real real"]:
    r"""The covariance of (real, imaginary) parts, in the form that `CovarianceNoise` takes, of
    circular complex noise with :math:`E[r r^H] = C`.

    Arguments:
        covariance: C, complex Hermitian, (m, m).
    """
    c = covariance.to(torch.complex128) / 2
    parts = torch.stack(
        [torch.stack([c.real, -c.imag], -1), torch.stack([c.imag, c.real], -1)], 1
    )  # (m, part, m, part)
    return parts.reshape(2 * len(c), 2 * len(c))
