"""The density of geometric variational inference, by which it is judged at no cost.

With position m, metric M = I + J(m)^T J(m) and g(v) = v - m + J(m)^T (w(v) - w(m)) a draw v solves
g(v) = y with y ~ N(0, M), and

    log q(v) = log N(g(v); 0, M) + log |det(I + J(m)^T J(v))|.
"""

from __future__ import annotations

import math

import torch
from league_whitened import Whitened
from torch import Tensor

__all__ = ["judged_geometric"]

DRAWS = 1000
DENSE = 64  # parameters up to which Newton's steps and the density have the Jacobian at each draw
ITERATIONS, HALVINGS = 30, 4
SETTLED, MOST = 0.03, 0.05  # posterior standard deviations of a draw; share that is not there


@torch.no_grad()
def judged_geometric(posterior: Whitened, position: Tensor) -> dict[str, float]:
    """Errors of geoVI at `position`, (1, D); none where its draws cannot be found."""
    size, generator = posterior.size, torch.Generator().manual_seed(7)
    jacobian = posterior.jacobian(position, counted=False)
    metric = torch.eye(size, dtype=torch.float64) + jacobian.T @ jacobian
    factor = torch.linalg.cholesky(metric)
    half = torch.randn(DRAWS // 2, size, generator=generator).double()
    eta = torch.cat([half, -half])
    v, error = _solved(posterior, position, jacobian, factor, eta)
    settled = error < SETTLED * math.sqrt(size)
    if float(settled.double().mean()) < 1 - MOST:
        return {}
    v, eta = v[settled], eta[settled]
    if size > DENSE:
        return posterior.given.judge.of_draws(posterior.model(v).flatten(1).numpy())
    log_q = -0.5 * eta.square().sum(1) - 0.5 * size * math.log(2 * math.pi)
    log_q = log_q + torch.linalg.slogdet(_slope(posterior, jacobian, v))[1]
    return posterior.judged_draws(v, log_q - factor.diagonal().log().sum())


def _solved(
    posterior: Whitened, position: Tensor, jacobian: Tensor, factor: Tensor, eta: Tensor
) -> tuple[Tensor, Tensor]:
    """v with M^{-1/2} g(v) = eta, and how far each is from it, by Newton's steps, each halved until
    it comes nearer; with M for the slope of g where that is too large.
    """
    at_position, size = posterior.data(position), len(factor)

    def away(v: Tensor, eta: Tensor) -> Tensor:  # M^{-1/2} g(v) - eta
        g = v - position + (posterior.data(v) - at_position) @ jacobian
        return torch.linalg.solve_triangular(factor, g.T, upper=False).T - eta

    v = position + torch.linalg.solve_triangular(factor.T, eta.T, upper=True).T
    rest = away(v, eta)
    error = rest.norm(dim=1)
    for _ in range(ITERATIONS):
        left = (error > SETTLED / 10 * math.sqrt(size)).nonzero()[:, 0]
        if not len(left):
            break
        g = rest[left] @ factor.T
        if size <= DENSE:
            step = torch.linalg.solve(_slope(posterior, jacobian, v[left]), g[..., None])[..., 0]
        else:
            step = torch.cholesky_solve(g.T, factor).T
        for _ in range(HALVINGS):
            new = v[left] - step
            new_rest = away(new, eta[left])
            new_error = new_rest.norm(dim=1)
            nearer = new_error < error[left]  # never with NaN
            moved = left[nearer]
            v[moved], rest[moved], error[moved] = new[nearer], new_rest[nearer], new_error[nearer]
            left, step = left[~nearer], step[~nearer] / 2
            if not len(left):
                break
    return v, error


def _slope(posterior: Whitened, jacobian: Tensor, v: Tensor) -> Tensor:
    """I + J(m)^T J(v) of each row of v, (n, D, D)."""
    size = posterior.size
    unit = torch.eye(size, dtype=torch.float64)
    columns = [posterior.directional(v, direction) for direction in unit]  # (n, m) each
    return unit + jacobian.T @ torch.stack(columns, -1)
