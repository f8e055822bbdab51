"""Reverse KL: the surrogate has the right gradient, and the path gradient is the quieter one."""

from __future__ import annotations

import pytest
import torch

from pflow.errors import PflowError
from pflow.execution.seeds import generator_for
from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.objectives.reverse_kl import ReverseKL
from pflow.objectives.stopping import Stopping
from pflow.problems import build_problem

Y = torch.tensor([[0.7, 1.9]], dtype=torch.float64)


@pytest.fixture
def flow() -> torch.nn.Module:
    torch.manual_seed(1)
    flow = build_flow("coupling", (2,), (2,), depth=3, hidden=8).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return flow


def gradient(flow, gradient, batch, seed=0) -> torch.Tensor:
    flow.zero_grad()
    objective = ReverseKL(Target(build_problem("rosenbrock"), Y), Stopping(batch), batch, gradient)
    loss, _ = objective.loss(flow, torch.Generator().manual_seed(seed))
    loss.backward()
    return torch.cat([p.grad.flatten() for p in flow.parameters() if p.grad is not None])


def test_total_gradient_is_that_of_the_differentiated_objective(flow):
    problem, generator = build_problem("rosenbrock"), torch.Generator().manual_seed(0)
    found = gradient(flow, "total", 64)
    flow.zero_grad()
    x, log_q = flow.sample_with_log_prob(Y, 64, generator)
    (
        log_q - problem.log_likelihood(Y, problem.high_fidelity(x)) - problem.log_prior(x)
    ).mean().backward()
    expected = torch.cat([p.grad.flatten() for p in flow.parameters() if p.grad is not None])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_both_gradients_have_the_same_mean(flow):
    n = 200_000
    total, path = gradient(flow, "total", n), gradient(flow, "path", n, seed=1)
    noise = (
        torch.stack([gradient(flow, "total", 2000, seed=s) for s in range(2, 22)]).std(0)
        * (2 * 2000 / n) ** 0.5
    )
    standardised = (total - path) / noise.clamp_min(1e-9)
    assert standardised.abs().mean() < 1.3  # 0.8 if they agree
    assert (total - path).norm() < 0.05 * total.norm()


class GaussianProblem:
    """A stand-in whose posterior a flow at initialisation matches exactly: N(0, I)."""

    def high_fidelity(self, x):
        return x

    def summary(self, y):
        return y

    def log_likelihood(self, y, prediction):
        return torch.zeros(len(prediction), dtype=prediction.dtype)

    def log_prior(self, x):
        return -0.5 * x.square().sum(1)


def test_path_gradient_vanishes_at_the_posterior_and_the_total_does_not():
    flow = build_flow("coupling", (2,), (2,), depth=2, hidden=8).double()
    flow.initialise_inverse(16, Y, torch.Generator().manual_seed(0))

    def norm(kind):
        flow.zero_grad()
        loss, _ = ReverseKL(Target(GaussianProblem(), Y), Stopping(64), 64, kind).loss(
            flow, torch.Generator().manual_seed(0)
        )
        loss.backward()
        return torch.cat([p.grad.flatten() for p in flow.parameters() if p.grad is not None]).norm()

    assert norm("path") < 1e-12
    assert norm("total") > 1e-2


def test_every_draw_is_counted_and_the_budget_is_exact(flow):
    target = Target(build_problem("rosenbrock"), Y)
    objective, generator = ReverseKL(target, Stopping(150), 64, "path"), generator_for(0, "test")
    while not objective.begin(flow, generator):
        objective.loss(flow, generator)
    assert target.ledger.evaluations == 150
    assert "150 evaluations" in objective.stop_reason


def test_invalid_points_are_left_out_and_counted(flow):
    problem = build_problem("rosenbrock")
    inner = problem.log_prior

    def log_prior(x):
        return torch.where(x[:, 0] > 1.0, torch.nan, inner(x))

    problem.log_prior = log_prior
    target = Target(problem, Y)
    loss, _ = ReverseKL(target, Stopping(64), 64, "path").loss(
        flow, torch.Generator().manual_seed(0)
    )
    assert torch.isfinite(loss) and 0 < target.ledger.invalid < 32


def test_mostly_invalid_points_stop_with_advice(flow):
    problem = build_problem("rosenbrock")
    problem.log_prior = lambda x: x[:, 0] * torch.nan
    with pytest.raises(PflowError, match="NaN or infinite at 100% of the draws"):
        ReverseKL(Target(problem, Y), Stopping(64), 64, "path").loss(
            flow, torch.Generator().manual_seed(0)
        )


def test_annealing_starts_at_the_prior_and_ends_at_the_posterior(flow):
    problem, generator = build_problem("rosenbrock"), torch.Generator().manual_seed(0)
    target = Target(problem, Y)
    objective = ReverseKL(target, Stopping(1000), 50, "total", anneal=0.5)
    target.ledger.points = 198  # 248 / 1000 of the budget after this batch: half of the annealing
    loss, _ = objective.loss(flow, generator)
    x, log_q = flow.sample_with_log_prob(Y, 50, torch.Generator().manual_seed(0))
    weight = 0.01 + 0.99 * 0.248 / 0.5
    expected = (
        log_q - problem.log_prior(x) - weight * problem.log_likelihood(Y, problem.high_fidelity(x))
    )
    torch.testing.assert_close(loss, expected.mean())


def test_score_error_is_the_residual_in_the_metric_of_the_flow(flow):
    problem, stopping = build_problem("rosenbrock"), Stopping(64, score_error=1e-9, window=64)
    ReverseKL(Target(problem, Y), stopping, 64, "path").loss(flow, torch.Generator().manual_seed(0))
    z = flow.draw_latent(64, torch.Generator().manual_seed(0))
    x = flow.inverse(z, Y)[0].detach().requires_grad_()
    (model_score,) = torch.autograd.grad(flow.log_prob(x, Y).sum(), x)
    residual = model_score - Target(problem, Y).evaluate(x).score
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(
            lambda row: flow.inverse(row[None], Y)[0][0], z[i]
        )
        expected = (jacobian.T @ residual[i]).square().mean()
        torch.testing.assert_close(
            stopping.score_errors[i].double(), expected.detach(), rtol=1e-5, atol=1e-8
        )
