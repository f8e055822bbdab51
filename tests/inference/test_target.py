"""The unnormalised posterior: its score is its gradient, and every evaluation is counted."""

from __future__ import annotations

import torch

from pflow.inference.target import Target
from pflow.problems import build_problem


def test_density_and_score_against_finite_differences_and_the_exact_posterior():
    problem, generator = build_problem("rosenbrock"), torch.Generator().manual_seed(0)
    y = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    target = Target(problem, y)
    x = problem.sample_prior(5, generator, torch.float64)
    evaluated = target.evaluate(x)
    exact = problem.exact_posterior(y)
    torch.testing.assert_close(
        evaluated.log_density, exact.log_density(x) + exact.log_evidence, rtol=1e-8, atol=1e-8
    )
    for i in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[i] = 1e-5
        slope = (target.predict(x + step)[1] - target.predict(x - step)[1]) / 2e-5
        torch.testing.assert_close(evaluated.score[:, i], slope, rtol=1e-6, atol=1e-6)
    assert target.ledger.evaluations == 5
    assert target.ledger.forwards == 20


def test_the_likelihood_alone_is_kept_apart_from_the_posterior():
    problem = build_problem("gaussian")
    x, y = problem.simulate(4, torch.Generator().manual_seed(0))
    target = Target(problem, y[:1])
    alone = target.evaluate(x, prior=False)
    assert alone.valid.all() and alone.log_prior.isnan().all()
    again = target.evaluate(x, prior=False)
    assert target.ledger.recalled == 4 and torch.equal(again.score, alone.score)
    fresh = Target(problem, y[:1])
    whole = fresh.evaluate(x)
    point = x.clone().requires_grad_()
    (prior_score,) = torch.autograd.grad(problem.log_prior(point).sum(), point)
    torch.testing.assert_close(whole.score - prior_score, alone.score, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(whole.log_likelihood, alone.log_likelihood)
    # rows of the posterior do not answer for the likelihood
    torch.testing.assert_close(fresh.evaluate(x, prior=False).score, alone.score)
    assert fresh.ledger.recalled == 0


class Elsewhere:
    """The Rosenbrock problem, whose operator works in float64 on a device of its own."""

    def __init__(self):
        self.problem = build_problem("rosenbrock")
        self.log_likelihood, self.log_prior = self.problem.log_likelihood, self.problem.log_prior
        self.high_fidelity = Insisting(self.problem.high_fidelity)


class Insisting:
    """An operator that takes nothing but its own dtype and device."""

    dtype, device = torch.float64, torch.device("cpu")

    def __init__(self, inner):
        self.inner, self.calls = inner, 0

    def __call__(self, x):
        assert x.dtype == self.dtype and x.device == self.device
        self.calls += 1
        return self.inner(x)


def test_the_operator_gets_points_where_and_as_it_wants_them():
    y, x = (
        torch.tensor([[1.0, 2.0]]),
        build_problem("rosenbrock").sample_prior(8, torch.Generator().manual_seed(0)),
    )
    elsewhere, here = Target(Elsewhere(), y), Target(build_problem("rosenbrock"), y)
    evaluated, expected = elsewhere.evaluate(x), here.evaluate(x)
    assert evaluated.score.dtype == evaluated.log_likelihood.dtype == torch.float32
    torch.testing.assert_close(evaluated.score, expected.score, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(elsewhere.predict(x)[1], expected.log_density, rtol=1e-4, atol=1e-3)
    assert elsewhere.problem.high_fidelity.calls == 2  # one for each batch


def test_nothing_is_asked_at_points_that_are_not_finite():
    problem, asked = build_problem("rosenbrock"), []
    inner, log_prior = problem.high_fidelity.forward, problem.log_prior
    problem.high_fidelity.forward = lambda x: asked.append(x) or inner(x)
    problem.log_prior = lambda x: asked.append(x) or log_prior(x)  # may raise an error for NaN
    target = Target(problem, torch.tensor([[1.0, 2.0]]))
    x = torch.tensor([[1.0, 1.0], [torch.nan, 0.0], [0.5, 2.0], [torch.inf, 0.0]])
    evaluated, (prediction, log_density) = target.evaluate(x), target.predict(x)
    assert all(points.isfinite().all() for points in asked)
    assert evaluated.valid.tolist() == [True, False, True, False]
    assert target.ledger.points == 4 and target.ledger.invalid == 2
    alone = Target(problem, target.y).evaluate(x[::2])
    torch.testing.assert_close(evaluated.score[::2], alone.score)
    torch.testing.assert_close(log_density[::2], alone.log_density)
    assert prediction[1::2].isnan().all() and log_density[1::2].isnan().all()
