r"""A Gaussian process with one length a parameter: the difference of two operators in few
parameters, where these interact.

    delta_j(v) = mean_j + scale_j g_j(v),      g_j independent, each with the covariance
    k(v, v') = a^2 v . v' + b^2 exp(-sum_d (v_d - v'_d)^2 / (2 l_d^2)) + 1

Values d_i = delta(v_i) and products h_i = (d delta / d v)^T r_i are those of `affine`. Given
the values alone every g_j has the same posterior covariance c(v, v'). What the products add is then
one linear system of n D equations, whatever the number of data:

    S_(ia),(jb) = (r_i . r_j) d_a d'_b c(v_i, v_j) + t^2,        alpha = S^{-1} (h - what the values
                                                                  predict of it)
    delta(v) = what the values predict + sum_ia alpha_ia r_i d'_a c(v, v_i)

with r_i in units of `scale`. a, b, l and the noise of values are those of the largest evidence of
the values, with every scale_j at its optimum; t has the largest evidence of the products.
(Rasmussen, Williams, Gaussian processes for machine learning, 2006, sections 5.4 and 9.4.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["KernelDelta"]

ITERATIONS = 40
MOST_PRODUCTS = 1200  # equations of the products, at most: those of the points of largest weight
RATIOS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of t^2 and the mean square of a product


@dataclass(frozen=True)
class _Covariance:
    """k of the module, with its derivatives."""

    lengths: Tensor
    linear: Tensor
    smooth: Tensor

    def smooth_part(self, v: Tensor, other: Tensor) -> Tensor:
        """b^2 exp(...), (n, n')."""
        v, other = v / self.lengths, other / self.lengths
        square = v.square().sum(1)[:, None] + other.square().sum(1) - 2 * v @ other.T
        return self.smooth * torch.exp(-0.5 * square.clamp(min=0))

    def __call__(self, v: Tensor, other: Tensor) -> Tensor:
        """k, (n, n')."""
        return self.linear * v @ other.T + self.smooth_part(v, other) + 1

    def along(self, v: Tensor, other: Tensor, alpha: Tensor) -> Tensor:
        """sum_a alpha_ia d'_a k(v, v'_i), (n, n')."""
        slope = alpha / self.lengths.square()
        shift = v @ slope.T - (other * slope).sum(1)
        return self.smooth_part(v, other) * shift + self.linear * v @ alpha.T

    def slopes(self, v: Tensor, other: Tensor) -> Tensor:
        """d_a k(v_i, v'), (n D, n')."""
        difference = (other - v[:, None]) / self.lengths.square()  # (n, n', D)
        slopes = self.smooth_part(v, other)[..., None] * difference + self.linear * other
        return slopes.transpose(1, 2).flatten(0, 1)

    def curvatures(self, v: Tensor) -> Tensor:
        """d_a d'_b k(v_i, v_j), (n, D, n, D)."""
        inverse = 1 / self.lengths.square()
        difference = (v[:, None] - v) * inverse
        outer = difference[..., None] * difference[..., None, :]
        curvature = self.smooth_part(v, v)[..., None, None] * (torch.diag(inverse) - outer)
        curvature = curvature + self.linear * torch.eye(v.shape[1], dtype=v.dtype)
        return curvature.transpose(1, 2)


class KernelDelta:
    """The posterior of the module, given n evaluations; the arguments are those of `AffineDelta`.

    Arguments:
        points: v_i, (n, D).
        values: d_i, (n, m).
        directions: r_i, (n, m), unit vectors; zero rows where no gradient is known.
        products: h_i, (n, D).
        weights: om_i, (n,), which divide the noise of values and products.
    """

    def __init__(
        self, points: Tensor, values: Tensor, directions: Tensor, products: Tensor, weights: Tensor
    ) -> None:
        self.points = points
        self.offset = (weights[:, None] * values).sum(0) / weights.sum()
        centred = values - self.offset
        self.noise_shape = 1 / weights.clamp(min=1e-6)
        self.covariance, noise, self.scale = self._most_likely(centred)
        gram = self.covariance(points, points) + torch.diag(noise * self.noise_shape)
        self.factor = torch.linalg.cholesky(gram)
        self.basis = torch.eye(values.shape[1], dtype=values.dtype)
        scaled = centred / self.scale
        self.coefficients = torch.cholesky_solve(scaled, self.factor)
        known = directions.square().sum(1) > 0
        order = weights.argsort(descending=True, stable=True)
        kept = order[known[order]][: MOST_PRODUCTS // points.shape[1]].sort().values
        self.kept, self.alpha = points[kept], products[kept]
        self.directions = directions[kept] * self.scale
        if len(kept):
            self._add_products(scaled, products[kept], weights[kept])

    def _most_likely(self, centred: Tensor) -> tuple[_Covariance, float, Tensor]:
        """By L-BFGS over logarithms: covariance, noise, and scale_j, (m,)."""
        count, size = self.points.shape
        start = [0.0, 0.0, -6.0, *([torch.tensor(2.0 * size**0.5).log().item()] * size)]
        log = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS(
            [log], max_iter=ITERATIONS, line_search_fn="strong_wolfe", tolerance_change=1e-6
        )
        floor = 1e-12 * float(centred.square().mean()) + 1e-12

        def parts(log: Tensor) -> tuple[_Covariance, Tensor, Tensor, Tensor]:
            clipped = log.clamp(-14, 8)
            covariance = _Covariance(clipped[3:].exp(), clipped[0].exp(), clipped[1].exp())
            gram = covariance(self.points, self.points)
            factor = torch.linalg.cholesky(
                gram + torch.diag((clipped[2].exp() + 1e-8) * self.noise_shape)
            )
            white = torch.linalg.solve_triangular(factor, centred, upper=False)
            return covariance, clipped[2].exp() + 1e-8, factor, white.square().mean(0) + floor

        def closure() -> Tensor:
            optimiser.zero_grad()
            _, _, factor, squares = parts(log)
            loss = 0.5 * count * squares.log().mean() + factor.diagonal().log().sum()
            prior = 0.02 * (log[3:] - start[3]).square().sum() + 0.01 * log[:2].square().sum()
            outside = (log - log.clamp(-14, 8)).square().sum()
            loss = (loss + (prior + outside) / len(squares)) / count
            loss.backward()
            return loss

        with torch.enable_grad():
            optimiser.step(closure)
        with torch.no_grad():
            covariance, noise, _, squares = parts(log.detach())
        return covariance, float(noise), squares.sqrt()

    def _add_products(self, scaled: Tensor, products: Tensor, weights: Tensor) -> None:
        count, size = products.shape
        slopes = self.covariance.slopes(self.kept, self.points)  # (n D, n)
        by_values = slopes @ self.coefficients  # (n D, m)
        rows = self.directions.repeat_interleave(size, 0)
        error = products.flatten() - (by_values * rows).sum(1)
        white = torch.linalg.solve_triangular(self.factor, slopes.T, upper=False)
        system = self.covariance.curvatures(self.kept).reshape(count * size, -1) - white.T @ white
        system = system * (rows @ rows.T)
        root = weights.clamp(min=1e-6).sqrt().repeat_interleave(size)
        values, vectors = torch.linalg.eigh(root[:, None] * system * root)
        rotated = vectors.T @ (root * error)
        scale = float(products.square().mean())
        losses = []
        for ratio in RATIOS:
            noisy = values.clamp(min=0) + ratio * scale + 1e-300
            losses.append(float((noisy.log() + rotated.square() / noisy).sum()))
        best = RATIOS[losses.index(min(losses))]
        noisy = values.clamp(min=0) + best * scale + 1e-300
        self.alpha = (root * (vectors @ (rotated / noisy))).reshape(count, size)
        moved = self.covariance.along(self.points, self.kept, self.alpha) @ self.directions
        self.coefficients = torch.cholesky_solve(scaled - moved, self.factor)

    def mean(self, v: Tensor) -> Tensor:
        """delta(v), (batch, m), differentiable."""
        values = self.covariance(v, self.points) @ self.coefficients
        if len(self.kept):
            values = values + self.covariance.along(v, self.kept, self.alpha) @ self.directions
        return self.offset + self.scale * values

    def jacobian(self, v: Tensor) -> Tensor:
        """d delta / d v at one v (D,), (m, D)."""
        return torch.autograd.functional.jacobian(lambda at: self.mean(at[None])[0], v)

    def variance(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Of delta(v) in each datum, as the values alone leave it, (batch, m); and 0, (batch,)."""
        white = torch.linalg.solve_triangular(
            self.factor, self.covariance(self.points, v), upper=False
        )
        own = self.covariance.linear * v.square().sum(1) + self.covariance.smooth + 1
        left = (own - white.square().sum(0)).clamp(min=0)
        return left[:, None] * self.scale.square(), torch.zeros_like(left)
