"""Random subsets of sources: unbiased, the same when asked again, paid by their share, and score
replay learns the whole from them.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from pflow.errors import PflowError
from pflow.execution.seeds import generator_for
from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.objectives.replay.score_model import Metric, ScoreModel
from pflow.objectives.replay.score_replay import ScoreReplay
from pflow.objectives.stopping import Stopping
from pflow.operators import MatrixOperator
from pflow.problems.base import Problem
from tests.support.fine_tuning import fine_tune

SIZE, SOURCES, RECEIVERS = 5, 6, 3
MATRIX = 0.6 * torch.randn(
    SOURCES * RECEIVERS, SIZE, generator=generator_for(0, "matrix"), dtype=torch.float64
)


class SourceOperator(MatrixOperator):
    """A matrix whose rows belong to sources."""

    sources = SOURCES

    def __init__(self):
        super().__init__(MATRIX)
        self.data_shape = (SOURCES, RECEIVERS)
        self.asked = []

    def forward(self, x):
        return super().forward(x).view(len(x), *self.data_shape)

    def adjoint(self, v):
        return super().adjoint(v.flatten(1))

    def forward_sources(self, x, sources):
        self.asked.append(sources.shape)
        rows = MATRIX.to(x).view(SOURCES, RECEIVERS, SIZE)[sources]
        return torch.einsum("bsri,bi->bsr", rows, x)


class SourceProblem(Problem):
    """x ~ N(0, I) seen by every source."""

    name = "sources"

    def __init__(self):
        operator = SourceOperator()
        super().__init__(operator, operator, 0.4, [f"x{i}" for i in range(SIZE)])

    def sample_prior(self, n, generator=None, dtype=torch.float32):
        return torch.randn(n, SIZE, generator=generator, dtype=torch.float64).to(dtype)

    def log_prior(self, x):
        return -0.5 * x.square().sum(1) - 0.5 * SIZE * math.log(2 * math.pi)


@pytest.fixture
def problem() -> SourceProblem:
    return SourceProblem()


@pytest.fixture
def y(problem) -> torch.Tensor:
    return problem.simulate(1, generator_for(1, "data"), "high")[1]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_mean_over_all_subsets_is_the_full_likelihood_and_score(problem, y, k, monkeypatch):
    y = y.double()
    x = problem.sample_prior(3, generator_for(2, "points"), torch.float64)
    full, found = Target(problem, y).evaluate(x), []
    for subset in itertools.combinations(range(SOURCES), k):
        monkeypatch.setattr(
            Target, "_subset", lambda self, point, subset=subset: torch.tensor(subset).numpy()
        )
        found.append(Target(problem, y, sources=k).evaluate(x))
    assert len(found) == math.comb(SOURCES, k)
    for name in ("log_likelihood", "score"):
        estimates = torch.stack([getattr(evaluation, name) for evaluation in found])
        torch.testing.assert_close(estimates.mean(0), getattr(full, name), rtol=1e-9, atol=1e-9)
        assert estimates.std(0).min() > 0
    torch.testing.assert_close(found[0].log_prior, full.log_prior)


def test_all_sources_are_drawn_alike_and_again_the_same(problem, y):
    x = problem.sample_prior(3000, generator_for(3, "points"))
    target = Target(problem, y, sources=2, seed=5)
    seen = target.seen(x)
    assert bool((seen.sum(1) == 2).all())
    assert (seen.mean(0) - 1 / 3).abs().max() < 0.04  # five standard errors
    first, again = (
        target.evaluate(x[:50]),
        Target(problem, y, sources=2, seed=5).evaluate(x[:50].flip(0)),
    )
    assert torch.equal(first.log_likelihood, again.log_likelihood.flip(0)) and torch.equal(
        first.score, again.score.flip(0)
    )
    other = Target(problem, y, sources=2, seed=6).evaluate(x[:50])
    assert not torch.equal(first.log_likelihood, other.log_likelihood)
    assert set(problem.high_fidelity.asked) == {(50, 2)}


def test_a_point_costs_its_share(problem, y):
    target = Target(problem, y, sources=4)
    target.evaluate(problem.sample_prior(4, generator_for(4, "points")))
    assert target.ledger.points == 4 and target.ledger.evaluations == pytest.approx(8 / 3)
    target.evaluate(problem.sample_prior(2, generator_for(5, "points")))
    assert target.ledger.evaluations == 4 and isinstance(target.ledger.evaluations, int)
    stopping = Stopping(10, share=target.ledger.share)
    assert (
        stopping.points == 15
        and not stopping.reason(14)
        and "10 evaluations" in stopping.reason(15)
    )


def test_subsets_that_make_no_sense_are_refused(problem, y):
    with pytest.raises(PflowError, match=r"`sources` \(=7\).*choose 1 to 6"):
        Target(problem, y, sources=7)
    inner = problem.log_likelihood
    problem.log_likelihood = lambda y, prediction: (
        inner(y, prediction) - (y - prediction).sum((1, 2)).square()
    )
    with pytest.raises(PflowError, match="independent between sources"):
        Target(problem, y, sources=2)
    problem.high_fidelity.sources = 1
    with pytest.raises(PflowError, match="remove it, or give the operator"):
        Target(problem, y, sources=2)


def test_the_model_learns_the_whole_score_from_parts(problem, y):
    """Each source's score is affine, so D + 1 points for each source determine the sum exactly:
    nothing is left to average.
    """
    y, generator = y.double(), generator_for(6, "points")
    x = problem.sample_prior(40, generator, torch.float64)
    target = Target(problem, y, sources=2)
    found = target.evaluate(x)
    fresh = problem.sample_prior(20, generator, torch.float64)
    truth = Target(problem, y).evaluate(fresh).score
    bases = {"flow": lambda x: 0 * x, "prior": lambda x: -x}
    models = [
        ScoreModel(x, found.score, Metric(fresh), bases, seen) for seen in (target.seen(x), None)
    ]
    knowing, unknowing = (
        (model.score(fresh) - truth).square().mean() / truth.square().mean() for model in models
    )
    assert knowing < 1e-6 < 0.01 < unknowing


@pytest.mark.slow
def test_replay_of_subsets_reaches_the_exact_posterior(problem, y):
    torch.manual_seed(0)
    flow = build_flow("coupling", (SIZE,), (SOURCES, RECEIVERS), depth=4, hidden=32)
    flow.initialise_inverse(8, y)
    target, generator = Target(problem, y, sources=2), generator_for(0, "run")
    objective = ScoreReplay(target, Stopping(32, share=target.ledger.share), draw=16)
    fine_tune(flow, objective, generator)
    precision = torch.eye(SIZE, dtype=torch.float64) + MATRIX.T @ MATRIX / 0.16
    mean = torch.linalg.solve(precision, MATRIX.T @ y.double().flatten() / 0.16)
    exact = torch.distributions.MultivariateNormal(mean, precision_matrix=precision)
    with torch.no_grad():
        x, log_q = flow.sample_with_log_prob(y, 8000, generator_for(1, "check"))
    assert float((log_q - exact.log_prob(x.double())).mean()) < 0.05
    assert (target.ledger.points, target.ledger.evaluations) == (96, 32)
