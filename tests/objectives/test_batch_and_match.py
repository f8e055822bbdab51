"""Batch and match: the closed form minimises what it says, and finds a Gaussian posterior through a
frozen flow.
"""

from __future__ import annotations

import torch

from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.objectives.batch_and_match import BatchAndMatch, match_scores
from pflow.objectives.stopping import Stopping
from pflow.problems import build_problem
from tests.support.fine_tuning import divergence


def test_update_is_a_stationary_point_of_its_objective():
    generator = torch.Generator().manual_seed(0)
    z, g = (torch.randn(7, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    mean, root = (
        torch.randn(3, generator=generator, dtype=torch.float64),
        torch.randn(3, 3, generator=generator, dtype=torch.float64),
    )
    covariance, strength = root @ root.T + torch.eye(3), 1.7

    def objective(m, c):
        # |S^{1/2} (grad log N(z; m, c) - g)|^2 averaged, and the divergence of the old Gaussian
        # from the new one (arXiv 2402.14758, eq. 6)
        residual = -torch.linalg.solve(c, (z - m).T).T - g
        divergence = 0.5 * (
            torch.trace(torch.linalg.solve(c, covariance))
            + (m - mean) @ torch.linalg.solve(c, m - mean)
            + torch.logdet(c)
        )
        return (residual @ c * residual).sum(1).mean() + 2 / strength * divergence

    new_mean, new_covariance = match_scores(z, g, mean, covariance, strength)
    m, c = new_mean.clone().requires_grad_(), new_covariance.clone().requires_grad_()
    gradient_of_mean, gradient = torch.autograd.grad(objective(m, c), (m, c))
    assert torch.linalg.eigvalsh(new_covariance).min() > 0
    assert gradient_of_mean.abs().max() < 1e-9
    assert (gradient + gradient.T).abs().max() < 1e-9  # covariances move symmetrically


def test_a_gaussian_posterior_is_found_through_a_frozen_flow():
    problem = build_problem("gaussian", side=2)
    y = problem.simulate(1, torch.Generator().manual_seed(1), "high")[1]
    torch.manual_seed(0)
    base = build_flow("coupling", (4,), (4,), depth=2, hidden=8)
    base.initialise_inverse(8, y)
    flow = build_flow("latent_gaussian", (4,), (4,), base=base, covariance="dense")
    objective, generator = (
        BatchAndMatch(Target(problem, y), 32, Stopping(640)),
        torch.Generator().manual_seed(0),
    )
    exact = problem.exact_posterior(y)

    before = divergence(flow, exact, y)
    while not objective.begin(flow, generator):
        assert objective.loss(flow, generator)[0] is None
    assert before > 1 and divergence(flow, exact, y) < 0.01
    assert objective.target.ledger.evaluations == 640
