"""Targets end the evaluations early, where they are reached and not before."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from pflow.errors import PflowError
from pflow.inference.target import Target
from pflow.objectives.stopping import Stopping
from pflow.objectives.surrogate.evaluated import Evaluated
from pflow.objectives.surrogate.findings import shift_of
from pflow.objectives.surrogate.gaussian import PosteriorGaussian
from pflow.objectives.surrogate.objective import Surrogate
from pflow.objectives.surrogate.particles import Particles
from pflow.objectives.surrogate.targets import IN_A_ROW, WINDOW, Targets
from pflow.problems import build_problem
from tests.support.fine_tuning import divergence
from tests.support.surrogate import flow_for, observation, run_surrogate

BUDGET = 200


def run(folder, stopping, shift=None):
    """The 25 parameters of a linear operator: exact after some 40 evaluations."""
    problem = build_problem("gaussian", side=5)
    y = observation(problem)
    flow, target = flow_for(problem), Target(problem, y)
    objective = Surrogate(target, stopping, shift=shift)
    run_surrogate(flow, objective, folder / "state")
    return divergence(flow, problem.exact_posterior(y), y), objective


@pytest.mark.parametrize(
    ("targets", "shift", "why"),
    [
        ({}, 0.01, "`target_shift` (=0.01) was reached in 3 rounds"),
        ({"ess_fraction": 0.9}, None, "reached its target 0.9"),
        ({"score_error": 1e-3}, None, "reached its target 0.001"),
    ],
)
def test_what_is_learnt_is_not_paid_for_again(targets, shift, why, tmp_path):
    distance, objective = run(tmp_path, Stopping(BUDGET, **targets), shift)
    assert objective.target.ledger.evaluations < BUDGET / 2 and distance < 1e-3
    assert why in objective.stop_reason and "budget" not in objective.stop_reason
    assert "Another 100 evaluations are predicted to move the posterior mean by" in (
        objective.stop_reason
    )


def test_a_target_that_is_never_reached_spends_the_budget(tmp_path):
    _, objective = run(tmp_path, Stopping(40, ess_fraction=0.999999), 1e-12)
    assert objective.target.ledger.evaluations == 40
    assert "the budget of 40 evaluations is spent; its target was not reached" in (
        objective.stop_reason
    )


def test_a_forecast_counts_once_it_holds_for_three_rounds():
    targets = Targets(Stopping(BUDGET), 0.01)
    for points, shift in enumerate((0.001, 0.5, None, 0.001, 0.001), start=20):
        targets.see_shift(points, shift)
        assert targets.reached == ""
    targets.see_shift(25, 0.002)
    assert IN_A_ROW == 3 and "target_shift" in targets.reached


@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_weights_are_compared_within_rounds(spread):
    """Log weights N(c, s^2) with another c in each round: a fraction of exp(-s^2) is effective."""
    posterior = SimpleNamespace(
        value_and_score=lambda v: (-0.5 * v.square().sum(1), -v),
        closed_form=False,
        model=SimpleNamespace(prior_score=torch.neg),
    )
    random, fractions = torch.Generator().manual_seed(0), []
    for _ in range(200):
        targets = Targets(Stopping(BUDGET, ess_fraction=0.5), None)
        for constant in range(WINDOW // 4):
            v = torch.randn(4, 3, generator=random, dtype=torch.float64)
            log_weight = constant + spread * torch.randn(4, generator=random, dtype=torch.float64)
            nothing = torch.zeros(4, 1, dtype=torch.float64)
            at = (v, nothing, torch.zeros_like(v), nothing, log_weight - 0.5 * v.square().sum(1))
            new = Evaluated(*at, nothing, torch.zeros_like(v))
            unit = torch.eye(3, dtype=torch.float64)
            targets.record(new, 4, posterior, PosteriorGaussian(unit[0], unit))
        weight = targets.log_weights.exp()
        fractions.append(float(weight.sum() ** 2 / (WINDOW * weight.square().sum())))
        assert torch.equal(targets.score_errors, torch.zeros(WINDOW, dtype=torch.float64))
    assert sum(fractions) / len(fractions) == pytest.approx(math.exp(-(spread**2)), abs=0.015)


def test_the_newest_rounds_survive_an_interruption():
    targets, resumed = (Targets(Stopping(BUDGET, ess_fraction=0.5), 0.1) for _ in range(2))
    targets.see_shift(20, 0.2)
    targets.log_weights = torch.zeros(WINDOW, dtype=torch.float64)
    resumed.load_state_dict(targets.state_dict())
    assert resumed.reached == targets.reached != "" and resumed.course == [(20, 0.2)]


def test_scores_cannot_be_compared_without_a_gradient():
    problem = build_problem("gaussian", side=5)
    target = Target(problem, observation(problem), gradient=False)
    with pytest.raises(PflowError, match=r"`target_score_error` \(=0.1\) needs the gradient"):
        Surrogate(target, Stopping(BUDGET, score_error=0.1))


@pytest.mark.parametrize("evaluations", [48, 80])
def test_the_forecast_is_what_another_hundred_evaluations_change(evaluations):
    """25 parameters of a nonlinear operator; the mean of the model's posterior is that of long
    chains.
    """
    problem = build_problem("lognormal", side=5, strength=1.0)
    target = Target(problem, observation(problem))
    objective, random = Surrogate(target, Stopping(BUDGET)), torch.Generator().manual_seed(0)
    exploration, means, forecasts = objective.exploration, [], []
    for limit in (evaluations, evaluations + 100):
        while target.ledger.points < limit:
            exploration.advance(limit - target.ledger.points, random)
            objective.targets.see_shift(target.ledger.points, shift_of(exploration))
        forecasts.append(objective.outcome)
        means.append(long_mean(exploration))
    moved = float(((means[1] - means[0]) @ exploration.frame.factor).square().mean().sqrt())
    assert forecasts[0]["expected_shift_posterior_std"] > 0.9 * moved
    ratio = forecasts[0]["next_100_evaluations_shift_posterior_std"] / moved
    assert 1 / 3 < ratio < 3  # what docs/methods.md says


def long_mean(exploration):
    random = torch.Generator().manual_seed(1)
    noise = torch.randn(256, exploration.model.size, generator=random, dtype=torch.float64)
    chains, kept = Particles(exploration.frame.place(noise)), []
    for _ in range(40):
        chains.move(exploration.posterior, exploration.frame, 1, random)
        kept.append(chains.points.mean(0))
    return torch.stack(kept[10:]).mean(0)
