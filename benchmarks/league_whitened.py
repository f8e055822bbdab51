"""A posterior in the coordinates of its prior, x = mu + L v with v ~ N(0, I), and what the rivals
ask of it, each counted by the target's ledger: gradients, products with J^T J, the Jacobian J of
the whitened data w(v).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from league_problems import LeagueProblem
from scipy.optimize import minimize
from torch import Tensor

from pflow.execution.seeds import generator_for
from pflow.inference.target import Target

__all__ = ["Whitened", "conjugate_gradients", "inverse_root", "mode_of"]

DIFFERENCE = 1e-4  # prior standard deviations, of central differences in float64
PRIOR_DRAWS = 20_000
ROWS = 64  # of the Jacobian at once
STEPS, PRODUCTS = 50, 100
LOOSEST = 0.1  # relative residual of conjugate gradients
DECREMENT = 1e-3  # nats that a Newton step still promises, at which the mode is found
ARMIJO, HALVINGS = 1e-4, 20


class Whitened:
    """The posterior of a problem of the league, in float64.

    Mean and covariance of a prior that is not given as a normal distribution are those of draws.
    """

    def __init__(self, given: LeagueProblem) -> None:
        self.given, self.size = given, given.size
        self.problem, self.target = given.problem, Target(given.problem, given.y.double())
        prior = getattr(self.problem, "prior", None)
        if prior is not None:
            self.mean, self.root = prior.mean.double(), prior.root.double()
            return
        generator = generator_for(0, "prior")
        draws = self.problem.sample_prior(PRIOR_DRAWS, generator, torch.float64).flatten(1)
        self.mean = draws.mean(0)
        self.root = torch.linalg.cholesky(torch.atleast_2d(torch.cov(draws.T)))

    @property
    def spent(self) -> int:
        """Evaluations so far."""
        return self.target.ledger.points

    def model(self, v: Tensor) -> Tensor:
        """x, (batch, *model)."""
        return (self.mean.flatten() + v @ self.root.T).reshape(-1, *self.problem.model_shape)

    def value_and_gradient(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """U = -log posterior up to a constant, and its gradient; one evaluation a point."""
        found = self.target.evaluate(self.model(v))
        return -found.log_density.double(), -(found.score.double().flatten(1) @ self.root)

    def data(self, v: Tensor) -> Tensor:
        """The whitened data w, (batch, m), not counted."""
        return self.problem.noise.whiten(self.problem.high_fidelity(self.model(v))).flatten(1)

    def adjoint(self, v: Tensor, r: Tensor, counted: bool = True) -> Tensor:
        """J(v)^T r of each row of r, (batch, D); v is one point or one a row."""
        self.target.ledger.points += counted * len(r)
        with torch.enable_grad():
            v = v.expand(len(r), -1).clone().requires_grad_()
            product = (self.data(v) * r).sum()
            if not product.requires_grad:  # F cannot be computed there
                return torch.full_like(v, torch.nan)
            return torch.autograd.grad(product, v)[0]

    @torch.no_grad()
    def directional(self, v: Tensor, t: Tensor) -> Tensor:
        """J(v) t of each row of t by central differences, (batch, m); counted by who calls."""
        length = t.norm(dim=-1, keepdim=True).clamp_min(1e-300)  # F may not be defined far away
        step = DIFFERENCE * t / length
        return (self.data(v + step) - self.data(v - step)) * (length / (2 * DIFFERENCE))

    def product(self, v: Tensor, t: Tensor) -> Tensor:
        """J^T J t of each row of t: forward and adjoint, one evaluation each."""
        return self.adjoint(v, self.directional(v, t))

    def jacobian(self, v: Tensor, counted: bool = True) -> Tensor:
        """J(v), (m, D), by rows or by columns, whichever are fewer: one evaluation each."""
        m = math.prod(self.problem.data_shape)
        if m > self.size:
            self.target.ledger.points += counted * self.size
            return self.directional(v, torch.eye(self.size, dtype=torch.float64)).T
        rows = torch.eye(m, dtype=torch.float64).split(ROWS)
        return torch.cat([self.adjoint(v, r, counted) for r in rows])

    def precision(self, v: Tensor) -> Tensor:
        """Of the Laplace approximation, (D, D).

        The Hessian of U in few dimensions, where it is positive definite (one product a column,
        here by central differences of gradients); else I + J^T J.
        """
        if self.given.few:
            step = DIFFERENCE * torch.eye(self.size, dtype=torch.float64)
            before = self.spent
            up, down = (self.value_and_gradient(v + sign * step)[1] for sign in (1, -1))
            self.target.ledger.points = before + self.size
            hessian = (up - down) / (2 * DIFFERENCE)
            hessian = (hessian + hessian.T) / 2
            if not int(torch.linalg.cholesky_ex(hessian)[1]):
                return hessian
        jacobian = self.jacobian(v)
        return torch.eye(self.size, dtype=torch.float64) + jacobian.T @ jacobian

    @torch.no_grad()
    def judged(self, mean: Tensor, root: Tensor) -> dict[str, float]:
        """Errors of N(mean, root root^T) in v."""
        generator = torch.Generator().manual_seed(7)
        z = torch.randn(self.given.judge.enough(), self.size, generator=generator).double()
        log_q = -0.5 * z.square().sum(1) - 0.5 * self.size * math.log(2 * math.pi)
        return self.judged_draws(mean + z @ root.T, log_q - torch.linalg.slogdet(root)[1])

    @torch.no_grad()
    def judged_draws(self, v: Tensor, log_q: Tensor) -> dict[str, float]:
        """Errors of a density in v, by its draws and their log q."""
        log_q = log_q - torch.linalg.slogdet(self.root)[1]
        return self.given.judge.of_density(self.model(v), log_q)

    def row(self, mean: Tensor, root: Tensor, seconds: float) -> dict[str, Any]:
        """A row of the league: what has been spent, and errors of a normal distribution."""
        return {"evaluations": self.spent, "seconds": seconds, **self.judged(mean, root)}


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, tolerance: float, most: int = PRODUCTS
) -> Tensor:
    """M^{-1} right for each row of `right`, M positive definite."""
    x, r = torch.zeros_like(right), right.clone()
    p, square = r.clone(), r.square().sum(1, keepdim=True)
    stop = tolerance**2 * square
    for _ in range(most):
        if bool((square <= stop).all()):
            break
        q = product(p)
        a = square / (p * q).sum(1, keepdim=True).clamp_min(1e-300)
        x, r = x + a * p, r - a * q
        new = r.square().sum(1, keepdim=True)
        p, square = r + new / square.clamp_min(1e-300) * p, new
    return x


def inverse_root(precision: Tensor) -> Tensor:
    """S with S S^T the covariance."""
    identity = torch.eye(len(precision), dtype=torch.float64)
    factor = torch.linalg.cholesky(precision)
    return torch.linalg.solve_triangular(factor, identity, upper=False).T


def mode_of(posterior: Whitened) -> Tensor:
    """The mode, (1, D): by L-BFGS in few dimensions, by Gauss-Newton in many."""
    return _quasi_newton(posterior) if posterior.given.few else _gauss_newton(posterior)


def _quasi_newton(posterior: Whitened) -> Tensor:
    def misfit(v):
        value, gradient = posterior.value_and_gradient(torch.from_numpy(v)[None])
        return float(value), gradient[0].numpy()

    found = minimize(misfit, [0.0] * posterior.size, jac=True, method="L-BFGS-B", tol=1e-6)
    return torch.from_numpy(found.x)[None]


def _gauss_newton(posterior: Whitened) -> Tensor:
    """Conjugate gradients and backtracking."""
    v = torch.zeros(1, posterior.size, dtype=torch.float64)
    value, gradient = posterior.value_and_gradient(v)
    first = float(gradient.norm())
    for _ in range(STEPS):

        def metric(t: Tensor, v: Tensor = v) -> Tensor:
            return t + posterior.product(v, t)

        tolerance = min(LOOSEST, math.sqrt(float(gradient.norm()) / first))
        step = conjugate_gradients(metric, -gradient, tolerance)
        slope = float((gradient * step).sum())
        if -slope < DECREMENT:
            return v + step
        length = 1.0
        for _ in range(HALVINGS):
            new_value, new_gradient = posterior.value_and_gradient(v + length * step)
            if bool(new_value <= value + ARMIJO * length * slope):
                break
            length /= 2
        else:
            return v
        v, value, gradient = v + length * step, new_value, new_gradient
    return v
