r"""The affine part of what the score of a posterior differs by from -z, in the latent of a flow.

    r(z) = g(z) + z             0 where the flow is the posterior

Each evaluated point gives one r(z_i), and

    minimise over b and symmetric M        sum_i w_i | r(z_i) - b + M z_i |^2 + l |M|^2
                                           (Frobenius)

is linear. With V the eigenvectors of K = sum_i w_i (z_i - z-)(z_i - z-)^T, k > 0 their eigenvalues,
and C = V^T sum_i w_i (z_i - z-)(r(z_i) - r-)^T,

    M = V E V^T + V N + (V N)^T,    E_ab = - (C V + (C V)^T)_ab / (k_a + k_b + 2 l),
                                    N_a  = - (C - C V V^T)_a / (k_a + 2 l).

N is there where the points are fewer than the parameters.

The Gaussian with that score is N(P^{-1} b, P^{-1}), P = I + M. At draws of q, M estimates the mean
of -grad g - I, and P is where the Gaussian that minimises KL(q || posterior) has its precision.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["AffineScore"]

SMALL = 1e4  # roundings of the largest eigenvalue, below which one is rounding itself


class AffineScore:
    """M and b of the module for any ridge, and the error of each at points left out.

    Arguments:
        z: points in the latent, (n, D).
        r: what the score is beside -z there, (n, D).
        weight: of the points, (n,).
        out: those that are left out of the fit, to judge it, (n,).

    Attributes:
        error_without: mean of |r|^2 / D at the points left out.
    """

    def __init__(self, z: Tensor, r: Tensor, weight: Tensor, out: Tensor) -> None:
        weight = weight[:, None]
        self.total = weight[~out].sum()
        self.z_mean, self.r_mean = ((weight * part)[~out].sum(0) / self.total for part in (z, r))
        root = weight.sqrt()
        self.unit = weight[out].sum() * z.shape[1]
        self.error_without = float((root[out] * r[out]).square().sum() / self.unit)
        z, r = root * (z - self.z_mean), root * (r - self.r_mean)
        values, self.vectors, left = _principal(z[~out])
        slope = values.sqrt()[:, None] * (left.T @ r[~out])  # C
        inside = slope @ self.vectors
        self.inside, self.beside = -(inside + inside.T), inside @ self.vectors.T - slope
        self.values = values
        self._keep(z[out], r[out])

    def _keep(self, z: Tensor, r: Tensor) -> None:
        """Of the points left out, what `error` needs, in the span of V and beside it."""
        self.along, self.r_along = z @ self.vectors, r @ self.vectors
        beside = r - self.r_along @ self.vectors.T
        self.r_beside = beside.square().sum()
        self.z_across, self.r_across = z @ self.beside.T, beside @ self.beside.T
        self.across = self.beside @ self.beside.T

    def _parts(self, ridge: float) -> tuple[Tensor, Tensor]:
        """E, and what the rows of -(C - C V V^T) are divided by for N."""
        least = 2 * ridge * self.total
        inside = self.inside / (self.values[:, None] + self.values + least)
        return inside, self.values + least

    def error(self, ridge: float) -> float:
        """Mean of |r - b + M z|^2 / D at the points left out; `ridge` counts points: l is `ridge`
        times the sum of weights.
        """
        inside, least = self._parts(ridge)
        within = self.r_along + self.along @ inside + self.z_across / least
        scaled = self.along / least
        beside = self.r_beside + (scaled * (2 * self.r_across + scaled @ self.across)).sum()
        return float((within.square().sum() + beside) / self.unit)

    def matrix(self, ridge: float) -> tuple[Tensor, Tensor]:
        """M, (D, D), and b, (D,)."""
        inside, least = self._parts(ridge)
        beside = self.beside / least[:, None]
        half = self.vectors @ (0.5 * inside @ self.vectors.T + beside)
        matrix = half + half.T
        return matrix, self.r_mean + matrix @ self.z_mean

    def eigenvectors(self, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
        """M by its eigenvalues other than 0, at most 2k, and their eigenvectors, (D, 2k), and b;
        without a matrix of D^2 numbers.
        """
        inside, least = self._parts(ridge)
        beside = self.beside / least[:, None]
        basis = torch.linalg.qr(torch.cat([self.vectors, beside.T], 1)).Q
        along = basis.T @ self.vectors
        half = along @ (0.5 * inside @ along.T + beside @ basis)
        values, vectors = torch.linalg.eigh(half + half.T)
        vectors = basis @ vectors
        return values, vectors, self.r_mean + vectors @ (values * (vectors.T @ self.z_mean))


def _principal(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of centred points z, (n, D): the k positive eigenvalues of z^T z, their eigenvectors (D, k),
    and those of z z^T, (n, k); by the smaller of the two matrices.
    """
    few = len(z) < z.shape[1]
    values, vectors = torch.linalg.eigh(z @ z.T if few else z.T @ z)
    rounding = torch.finfo(values.dtype)
    kept = values > SMALL * rounding.eps * values[-1].clamp(min=rounding.tiny)
    values, vectors = values[kept], vectors[:, kept]
    other = (z.T if few else z) @ vectors / values.sqrt()
    return (values, other, vectors) if few else (values, vectors, other)
