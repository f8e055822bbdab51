"""How far draws or a density are from a posterior: exact where it is known, from a long NUTS run
elsewhere.

Every method is measured by the errors of its moments and a sliced Wasserstein distance, all in
posterior standard deviations; a density also by KL(q || posterior). Chains have no density, and no
KL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pflow.diagnostics.moments import mean_error, std_error
from pflow.diagnostics.two_sample import sliced_wasserstein
from pflow.execution.seeds import generator_for
from pflow.inference.nuts import run_nuts
from pflow.inference.target import Target
from pflow.problems.base import Problem

__all__ = ["COLUMNS", "Reference", "reference_of"]

COLUMNS = ("kl_reverse_nats", "mean_error_posterior_std", "std_error", "sliced_wasserstein")
DRAWS, ELEMENTS = 4000, 2**21
WEIGHTED = 200_000  # draws of the proposal for the evidence of a posterior that is not known


@dataclass(frozen=True)
class Reference:
    """The posterior of one observation.

    Attributes:
        problem, y: prior, operator, noise; the observation, (1, *data).
        mean, std: of each unknown, (D,).
        draws: (n, D).
        log_evidence: log p(y).
    """

    problem: Problem
    y: Tensor
    mean: np.ndarray
    std: np.ndarray
    draws: np.ndarray
    log_evidence: float

    @torch.no_grad()
    def log_density(self, x: Tensor) -> Tensor:
        """log p(x given y), normalised."""
        return (
            self.problem.log_likelihood(self.y.to(x), self.problem.high_fidelity(x))
            + self.problem.log_prior(x)
            - self.log_evidence
        )

    def of_density(self, x: Tensor, log_q: Tensor) -> dict[str, float]:
        """Errors of a density, from draws and their log q."""
        kl = float((log_q.double() - self.log_density(x.double())).mean())
        return {"kl_reverse_nats": kl, **self.of_draws(x.flatten(1).double().numpy())}

    def of_draws(self, x: np.ndarray) -> dict[str, float]:
        """Errors of draws, (n, D)."""
        return {
            "mean_error_posterior_std": mean_error(x.mean(0), self.mean, self.std),
            "std_error": std_error(x.std(0), self.std),
            "sliced_wasserstein": sliced_wasserstein(x, self.draws),
        }

    def enough(self) -> int:
        """Draws that a density is judged by."""
        return min(DRAWS, ELEMENTS // len(self.mean))


def reference_of(problem: Problem, y: Tensor) -> Reference:
    """The exact posterior, or four long chains of NUTS and the evidence by importance sampling from
    a normal distribution fitted to them.
    """
    exact = problem.exact_posterior(y)
    if exact is not None:
        draws = exact.sample(DRAWS, generator_for(0, "reference")).flatten(1).numpy()
        return Reference(
            problem,
            y,
            *(v.double().flatten().numpy() for v in (exact.mean, exact.std)),
            draws,
            exact.log_evidence,
        )
    start = problem.sample_prior(100, generator_for(0, "start"), torch.float64).numpy()
    chains = run_nuts(
        Target(problem, y.double()), draws=2500, tune=500, chains=4, seed=0, start=start
    )
    draws = chains.x.reshape(-1, math.prod(problem.model_shape))
    reference = Reference(
        problem, y, draws.mean(0), draws.std(0), draws[:: len(draws) // DRAWS], 0.0
    )
    points = torch.from_numpy(draws)
    normal = torch.distributions.MultivariateNormal(points.mean(0), 1.1 * torch.cov(points.T))
    torch.manual_seed(0)
    x = normal.sample((WEIGHTED,))
    log_weight = reference.log_density(x) - normal.log_prob(x)
    log_evidence = float(torch.logsumexp(log_weight, 0) - math.log(WEIGHTED))
    weight = torch.softmax(log_weight, 0)
    print(
        f"reference by NUTS: {len(draws)} draws, {chains.divergences} divergences; log evidence"
        f" {log_evidence:.3f}, effective draws {float(1 / weight.square().sum()):.0f}"
    )
    return Reference(problem, y, reference.mean, reference.std, reference.draws, log_evidence)
