"""Models of the posterior from evaluated points: exact where they should be, honest about their
error.
"""

from __future__ import annotations

import math

import pytest
import torch

from pflow.inference.target import Target
from pflow.objectives.replay.likelihood_model import LikelihoodModel
from pflow.objectives.replay.posterior_model import PosteriorModel
from pflow.objectives.replay.score_model import Metric, ScoreModel
from pflow.problems import build_problem


@pytest.fixture
def linear():
    """A linear problem in nine dimensions, its evaluated points, and the operator-free scores."""
    problem, generator = build_problem("gaussian", side=3), torch.Generator().manual_seed(0)
    y = problem.simulate(1, generator, "high", torch.float64)[1]
    x = problem.sample_prior(30, generator, torch.float64)

    def prior_score(points):
        points = points.detach().requires_grad_()
        return torch.autograd.grad(problem.log_prior(points).sum(), points)[0]

    bases = {"flow": lambda points: -points, "prior": prior_score}
    return problem, y, x, Target(problem, y).evaluate(x), bases


def test_score_of_a_linear_problem_is_exact_after_one_point_more_than_unknowns(linear):
    problem, y, x, evaluated, bases = linear
    metric = Metric(problem.sample_prior(2000, torch.Generator().manual_seed(1), torch.float64))
    model = ScoreModel(x[:12], evaluated.score[:12], metric, bases)
    elsewhere = problem.sample_prior(50, torch.Generator().manual_seed(2), torch.float64)
    exact = Target(problem, y).evaluate(elsewhere).score
    assert (model.score(elsewhere) - exact).norm() < 1e-3 * exact.norm()
    assert model.error < 1e-4 * model.flow_error


def test_leave_one_out_error_is_that_of_leaving_one_out(linear, monkeypatch):
    problem, _, x, evaluated, bases = linear
    monkeypatch.setattr("pflow.objectives.replay.score_model.RIDGES", (0.1,))
    monkeypatch.setattr("pflow.objectives.replay.score_model.LENGTHS", ())
    metric = Metric(problem.sample_prior(2000, torch.Generator().manual_seed(1), torch.float64))
    rows = torch.arange(8)
    model = ScoreModel(x[rows], evaluated.score[rows], metric, bases)
    u = metric.whiten(x[rows])
    residual = metric.pull(evaluated.score[rows] - model.bases[model.choice[0]](x[rows]))
    weight = (9 / u.square().sum(1)).clamp(max=1).square()
    total = 0.0
    for (
        i
    ) in rows:  # weighted kernel ridge without point i, written out: noise variance 0.1 / weight
        kept = rows[rows != i]
        kernel = 9 + u[kept] @ u[kept].T + torch.diag(0.1 / weight[kept])
        predicted = (9 + u[i : i + 1] @ u[kept].T) @ torch.linalg.solve(kernel, residual[kept])
        total += float(weight[i] * (predicted - residual[i]).square().sum())
    assert model.error == pytest.approx(total / float(weight.sum() * 9), rel=1e-6)


def test_state_round_trip(linear):
    problem, _, x, evaluated, bases = linear
    metric = Metric(problem.sample_prior(2000, torch.Generator().manual_seed(1), torch.float64))
    model = ScoreModel(x, evaluated.score, metric, bases)
    again = ScoreModel.from_state(model.state_dict(), bases)
    assert torch.equal(model.score(x), again.score(x)) and again.error == model.error


def test_likelihood_of_a_linear_problem_is_exact(linear):
    problem, y, x, evaluated, bases = linear
    metric = Metric(problem.sample_prior(2000, torch.Generator().manual_seed(1), torch.float64))
    model = ScoreModel(x, evaluated.score, metric, bases)
    likelihood = LikelihoodModel(x, evaluated.log_likelihood, metric, *model.likelihood_affine())
    elsewhere = problem.sample_prior(50, torch.Generator().manual_seed(2), torch.float64)
    exact = Target(problem, y).evaluate(elsewhere).log_likelihood
    assert (likelihood.log_likelihood(elsewhere) - exact).abs().max() < 0.05
    assert likelihood.error < 0.05


class OneMode:
    """A flow that knows the right-hand mode of the bimodal problem alone."""

    model_shape = (2,)
    centre, spread = torch.tensor([1.33, 0.3]), torch.tensor([0.12, 0.25])

    def log_prob(self, x, y):
        return torch.distributions.Normal(self.centre, self.spread).log_prob(x).sum(1)

    def sample_with_log_prob(self, y, n, generator):
        x = self.centre + self.spread * torch.randn(n, 2, generator=generator)
        return x, self.log_prob(x, y)


def test_a_lost_mode_is_seen_where_the_likelihood_is_known():
    problem, y = build_problem("bimodal"), torch.tensor([[1.9, 0.3]])

    class Exact:
        error = 0.0

        def log_likelihood(self, x):
            return problem.log_likelihood(y, problem.high_fidelity(x)).double()

    posterior, flow = (
        PosteriorModel(Exact(), problem, y, torch.Generator().manual_seed(0)),
        OneMode(),
    )
    exact = problem.exact_posterior(y)
    assert posterior.log_evidence == pytest.approx(exact.log_evidence, abs=0.1)
    own = flow.sample_with_log_prob(y, 2000, torch.Generator().manual_seed(1))[1]
    beyond = posterior.beyond(flow, own)
    assert 0.4 < len(beyond) / len(posterior.draws) < 0.6
    assert (beyond[:, 0] < 0).float().mean() > 0.95
    assert posterior.forward_divergence(flow) > 10


def test_in_high_dimension_it_says_that_it_cannot_tell():
    problem, generator = build_problem("gaussian", side=8), torch.Generator().manual_seed(0)
    y = problem.simulate(1, generator, "high")[1]

    class Exact:
        error = 0.0

        def log_likelihood(self, x):
            return problem.log_likelihood(y, problem.high_fidelity(x)).double()

    posterior = PosteriorModel(Exact(), problem, y, generator)
    assert posterior.draws is None and math.isnan(posterior.log_evidence)
    assert posterior.forward_divergence(OneMode()) is None
