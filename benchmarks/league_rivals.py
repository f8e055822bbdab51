"""Methods that a practitioner knows: Laplace, Laplace with a Gaussian fit to scores, metric
Gaussian variational inference and batch and match in clean implementations; ADVI, full-rank VI,
NUTS, geometric variational inference, Pathfinder and variational Bayesian Monte Carlo by libraries.

A rival is a function of a problem, a seed and the largest budget, and yields rows along its way.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from league_blackjax import nuts_prior, pathfinder
from league_nifty import geovi, mgvi_nifty
from league_problems import LeagueProblem
from league_table import BUDGETS, budget_of
from league_vbmc import pyvbmc
from league_whitened import Whitened, conjugate_gradients, inverse_root, mode_of
from peers import normal_guide
from peers import nuts as nuts_chain
from torch import Tensor

from pflow.execution.seeds import generator_for
from pflow.objectives.batch_and_match import match_scores

__all__ = ["RIVALS", "Rival"]

Rows = Iterator[dict[str, Any]]
SAMPLES, METRIC_TOLERANCE, METRIC_STEPS, HALVINGS = 2, 0.05, 3, 8
SETTLED = 0.05  # gradient of the mean energy, which bounds the step that is left
RIDGES = (1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4)
SMALLEST, LARGEST = 0.2, 20.0  # precision of the score fit, in Laplace coordinates
BATCH, LARGE_BATCH = 8, 64  # of batch and match, in few and in many parameters
RANKS = (8, 16, 32, 64, 128)
DRAWS, TUNE = 250, 50  # of NUTS, which has 1024 evaluations


def laplace(given: LeagueProblem, seed: int, budget: int) -> Rows:
    """Mode and the full Gauss-Newton Hessian there."""
    began = time.perf_counter()
    posterior, mode, root = _laplace(given)
    yield posterior.row(mode, root, time.perf_counter() - began)


def laplace_low_rank(given: LeagueProblem, seed: int, budget: int) -> Rows:
    """Mode and a randomised low-rank Hessian by two passes of products, for several ranks."""
    began = time.perf_counter()
    posterior = Whitened(given)
    mode = mode_of(posterior)
    start, generator = posterior.spent, generator_for(seed, "directions")
    for rank in RANKS:
        if rank > given.size // 2 or start + 2 * rank > budget:
            return
        posterior.target.ledger.points = start  # each rank is a run of its own
        directions = torch.randn(rank, given.size, generator=generator).double()
        basis = torch.linalg.qr(posterior.product(mode, directions).T)[0]
        inner = basis.T @ posterior.product(mode, basis.T).T
        values, vectors = torch.linalg.eigh((inner + inner.T) / 2)
        values, vectors = values.clamp_min(0), basis @ vectors
        shrink = 1 - (1 + values).rsqrt()
        root = torch.eye(given.size, dtype=torch.float64) - (vectors * shrink) @ vectors.T
        yield posterior.row(mode, root, time.perf_counter() - began)


def laplace_score_fit(given: LeagueProblem, seed: int, budget: int) -> Rows:
    """Laplace, then rounds of an affine ridge regression of the scores in its coordinates.

    g(u) + u is linear in u for a normal posterior; leave-one-out chooses the ridge, and eigenvalues
    of the precision are clamped.
    """
    began = time.perf_counter()
    posterior, mode, frame = _laplace(given)
    yield posterior.row(mode, frame, time.perf_counter() - began)
    size, generator = given.size, generator_for(seed, "score fit")
    batch = 64 if size > 16 else 8
    mean, root = torch.zeros(size).double(), torch.eye(size).double()
    points, targets = torch.zeros(0, size).double(), torch.zeros(0, size).double()
    while posterior.spent + batch <= budget:
        u = mean + torch.randn(batch, size, generator=generator).double() @ root.T
        gradient = posterior.value_and_gradient(mode + u @ frame.T)[1]
        lost = not bool(gradient.isfinite().all())  # the fit has left where F can be computed
        if not lost:
            points = torch.cat([points, u])
            targets = torch.cat([targets, u - gradient @ frame])
            mean, root = _fitted(points, targets)
        if lost or _last(posterior, batch):
            yield posterior.row(mode + mean @ frame.T, frame @ root, time.perf_counter() - began)
        if lost:
            return


def mgvi(given: LeagueProblem, seed: int, budget: int) -> Rows:
    """Metric Gaussian variational inference (Knollmueller and Ensslin 2019, arXiv 1901.11033).

    Antithetic samples of N(0, M^{-1}), M = I + J^T J at the position, whose mean energy the
    position minimises. Judged by N(position, M^{-1}) with the exact M, which it is not charged for.
    """
    began = time.perf_counter()
    posterior, generator = Whitened(given), generator_for(seed, "mgvi")
    position = mode_of(posterior)
    data = posterior.data(position).shape[1]
    while posterior.spent < budget:

        def metric(t: Tensor, v: Tensor = position) -> Tensor:
            return t + posterior.product(v, t)

        noise = torch.randn(SAMPLES, data, generator=generator).double()
        right = torch.randn(SAMPLES, given.size, generator=generator).double()
        right = right + posterior.adjoint(position, noise)
        samples = conjugate_gradients(metric, right, METRIC_TOLERANCE)
        samples = torch.cat([samples, -samples])
        position = _with_least_mean_energy(posterior, position, samples, metric)
        jacobian = posterior.jacobian(position, counted=False)
        root = inverse_root(torch.eye(given.size).double() + jacobian.T @ jacobian)
        if posterior.spent <= budget:
            yield posterior.row(position, root, time.perf_counter() - began)


def batch_and_match(given: LeagueProblem, seed: int, budget: int) -> Rows:
    """Batch and match (Cai et al. 2024, arXiv 2402.14758) from the prior."""
    began = time.perf_counter()
    posterior, generator = Whitened(given), generator_for(seed, "batch and match")
    mean, covariance = torch.zeros(given.size).double(), torch.eye(given.size).double()
    batch = BATCH if given.size <= BATCH else LARGE_BATCH
    for round_number in range(1, budget // batch + 1):
        root = torch.linalg.cholesky(covariance)
        v = mean + torch.randn(batch, given.size, generator=generator).double() @ root.T
        score = -posterior.value_and_gradient(v)[1]
        strength = batch * given.size / round_number
        mean, covariance = match_scores(v, score, mean, covariance, strength)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed) or not bool(mean.isfinite().all()):
            yield {"evaluations": posterior.spent, "seconds": time.perf_counter() - began}
            return
        if _last(posterior, batch):
            yield posterior.row(mean, factor, time.perf_counter() - began)


def _guide(kind: str, given: LeagueProblem, seed: int, budget: int) -> Rows:
    began = time.perf_counter()
    start = given.problem.sample_prior(1000, generator_for(seed, "start")).flatten(1)
    for evaluations, errors in normal_guide(kind, _asked(given), start, seed):
        if evaluations > budget:
            return
        yield {"evaluations": evaluations, "seconds": time.perf_counter() - began, **errors}


def nuts(given: LeagueProblem, seed: int, budget: int) -> Rows:
    """One chain of nutpie's NUTS, in Laplace coordinates where there are many parameters."""
    began = time.perf_counter()
    start = given.problem.sample_prior(100, generator_for(seed, "start"))
    marks = [mark for mark in BUDGETS if mark <= budget]
    for evaluations, errors in nuts_chain(_asked(given), start, seed, DRAWS, TUNE, marks):
        yield {"evaluations": evaluations, "seconds": time.perf_counter() - began, **errors}


@dataclass(frozen=True)
class Rival:
    """A method of others.

    Attributes:
        run: (problem, seed, budget) to rows.
        package: that it needs and a plain installation lacks.
        few, many: whether it runs with few and with many parameters.
    """

    run: Callable[[LeagueProblem, int, int], Rows]
    package: str = ""
    few: bool = True
    many: bool = True

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return not self.package or importlib.util.find_spec(self.package) is not None


RIVALS = {
    "laplace": Rival(laplace),
    "laplace_low_rank": Rival(laplace_low_rank, few=False),
    "laplace_score_fit": Rival(laplace_score_fit),
    "mgvi": Rival(mgvi),
    "mgvi_nifty": Rival(mgvi_nifty, "nifty", few=False),
    "geovi": Rival(geovi, "nifty", few=False),
    "batch_and_match": Rival(batch_and_match),
    "advi": Rival(lambda *asked: _guide("advi", *asked), "pyro"),
    "full_rank": Rival(lambda *asked: _guide("full_rank", *asked), "pyro"),
    "pathfinder": Rival(pathfinder, "blackjax"),
    "nuts": Rival(nuts, "nutpie"),
    "nuts_prior": Rival(nuts_prior, "blackjax", many=False),  # adapting costs thousands
    "pyvbmc": Rival(pyvbmc, "pyvbmc", many=False),
}


def _last(posterior: Whitened, batch: int) -> bool:
    """Whether a budget pays for no further batch: only then a state is judged."""
    return budget_of(posterior.spent + batch) > budget_of(posterior.spent)


def _laplace(given: LeagueProblem) -> tuple[Whitened, Tensor, Tensor]:
    posterior = Whitened(given)
    mode = mode_of(posterior)
    return posterior, mode, inverse_root(posterior.precision(mode))


def _with_least_mean_energy(
    posterior: Whitened, position: Tensor, samples: Tensor, metric: Callable[[Tensor], Tensor]
) -> Tensor:
    """The position whose mean of U over position + samples is least: a few Newton steps with the
    metric, each halved until the mean falls.
    """
    value, gradient = posterior.value_and_gradient(position + samples)
    for _ in range(METRIC_STEPS):
        gradient = gradient.mean(0, keepdim=True)
        if float(gradient.norm()) < SETTLED:
            break
        step = conjugate_gradients(metric, -gradient, METRIC_TOLERANCE)
        for _ in range(HALVINGS):
            new_value, gradient = posterior.value_and_gradient(position + step + samples)
            if bool(new_value.mean() < value.mean()):
                break
            step = step / 2
        else:
            break
        position, value = position + step, new_value
    return position


def _fitted(points: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and a root of the covariance of the normal distribution of the ridge regression."""
    size = points.shape[1]
    identity = torch.eye(size, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(size + points @ points.T)
    best, least = None, float("inf")
    for ridge in RIDGES:
        inverse = 1 / (values.clamp_min(0) + ridge)
        a = vectors @ (inverse[:, None] * (vectors.T @ targets))
        error = float((a / (vectors.square() @ inverse)[:, None]).square().mean())
        if error < least:
            best, least = a, error
    slope = points.T @ best
    precision, axes = torch.linalg.eigh(identity - (slope + slope.T) / 2)
    precision = precision.clamp(SMALLEST, LARGEST)
    mean = (axes / precision) @ (axes.T @ (size * best.sum(0)))
    return mean, axes * precision.rsqrt()


def _asked(given: LeagueProblem) -> Any:
    """The problem as `peers` takes it."""
    return SimpleNamespace(
        problem=given.problem,
        y=given.y,
        enough=given.judge.enough,
        of_draws=given.judge.of_draws,
        of_density=given.judge.of_density,
    )
