"""The Gaussian that scores speak for: exact where the posterior is Gaussian, silent where the one
at hand is right, and the better end of a run whose model of F misleads.
"""

from __future__ import annotations

import pytest
import torch

from pflow.inference.target import Target
from pflow.objectives.stopping import Stopping
from pflow.objectives.surrogate.gaussian import PosteriorGaussian
from pflow.objectives.surrogate.objective import Surrogate
from pflow.objectives.surrogate.score_gaussian import score_gaussian
from pflow.problems import build_problem
from tests.support.surrogate import flow_for, observation, run_surrogate

SIZE = 6


def gaussian(seed):
    random = torch.Generator().manual_seed(seed)
    root = torch.randn(SIZE, SIZE, generator=random, dtype=torch.float64) / SIZE
    precision = torch.eye(SIZE, dtype=torch.float64) + root @ root.T
    mean = torch.randn(SIZE, generator=random, dtype=torch.float64)
    return PosteriorGaussian(mean, torch.linalg.cholesky(precision)), precision


def points(frame, count, seed=5):
    random = torch.Generator().manual_seed(seed)
    return frame.place(torch.randn(count, SIZE, generator=random, dtype=torch.float64))


def test_scores_of_a_gaussian_lead_to_it():
    """Mean and precision, from draws of another one."""
    (frame, _), (truth, precision) = gaussian(0), gaussian(1)
    v = points(frame, 2000)
    weights = torch.ones(len(v), dtype=torch.float64)
    found = score_gaussian(frame, v, (truth.mean - v) @ precision, weights)
    torch.testing.assert_close(found.mean, truth.mean, atol=0.01, rtol=0)
    torch.testing.assert_close(found.factor @ found.factor.T, precision, atol=0.01, rtol=0)


def test_points_without_weight_say_nothing():
    (frame, _), (truth, precision) = gaussian(0), gaussian(1)
    v = points(frame, 2000)
    score = (truth.mean - v) @ precision
    score[::2] += 100.0
    weights = torch.ones(len(v), dtype=torch.float64)
    weights[::2] = 1e-12
    found = score_gaussian(frame, v, score, weights)
    torch.testing.assert_close(found.mean, truth.mean, atol=0.02, rtol=0)


@pytest.mark.parametrize("count", [16, 40, 200])
def test_noise_is_no_reason_to_leave_the_gaussian_at_hand(count):
    """Too few scores, or scores that are those of the Gaussian but for noise."""
    frame, precision = gaussian(0)
    v = points(frame, count)
    random = torch.Generator().manual_seed(6)
    noise = 0.3 * torch.randn(v.shape, generator=random, dtype=torch.float64)
    score = (frame.mean - v) @ precision + noise
    assert score_gaussian(frame, v, score, torch.ones(count, dtype=torch.float64)) is None


@pytest.mark.long
@pytest.mark.slow
def test_where_the_model_of_f_is_poor_the_scores_win(tmp_path):
    """Travel times with straight rays as low fidelity, fewer evaluations than parameters."""
    problem = build_problem("traveltime", side=12, sources=8, receivers=12)
    y = observation(problem, seed=2)
    flow, target = flow_for(problem), Target(problem, y)
    objective = Surrogate(target, Stopping(128))
    run_surrogate(flow, objective, tmp_path / "state")
    found = objective.outcome
    assert found["by_scores_elbo_nats"] > found["gaussian_elbo_nats"]


@pytest.mark.slow
def test_a_gaussian_of_scores_that_is_wrong_is_not_returned(tmp_path, monkeypatch):
    """Fresh draws decide: one that lies ten deviations away has the lower ELBO."""

    def far(frame, *arguments):
        return PosteriorGaussian(frame.mean + 10, frame.factor)

    monkeypatch.setattr("pflow.objectives.surrogate.exploration.score_gaussian", far)
    problem = build_problem("lognormal", side=5, strength=1.0)
    y = observation(problem)
    flow, objective = flow_for(problem), Surrogate(Target(problem, y), Stopping(128))
    run_surrogate(flow, objective, tmp_path / "state")
    found = objective.outcome
    assert found["by_scores_elbo_nats"] < found["gaussian_elbo_nats"] - 1000
    v = objective.coordinates.whiten(flow.sample(y, 500, torch.Generator().manual_seed(4)))
    assert (v.mean(0) - objective.exploration.frame.mean).abs().max() < 1
