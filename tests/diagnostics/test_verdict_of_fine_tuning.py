"""Bad input through real fine-tunings of few parameters: the engine corrects what it can, and a
posterior that stays wrong is never called trustworthy.

The verdict sees what a user without a reference has: weights, scores, misfit and draws of the
prior. The budget is 32 evaluations (64 for score replay), and training is short.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import pflow.objectives.surrogate.objective as surrogate
import pflow.objectives.surrogate.ratio_training as ratio_training
from pflow.config.methods import FinetuningSettings, ScoreReplaySettings, SurrogateSettings
from pflow.config.trust import VerdictSettings
from pflow.diagnostics.summary import without_reference
from pflow.diagnostics.verdict import DO_NOT_USE, TRUSTWORTHY, judge
from pflow.flows import build_flow
from pflow.flows.base import Flow
from pflow.inference.target import Target
from pflow.problems import Rosenbrock
from pflow.stages.sample import latent_score_error
from tests.support.faulty_operators import AnyFunction, Faulty
from tests.support.fine_tuning import fine_tune_by_settings

pytestmark = pytest.mark.slow

WRONG = 0.1  # nats of KL(q || posterior) from which a posterior is wrong
SHARED = {"flow": "coupling", "start": "random"}
SURROGATE = SurrogateSettings(**SHARED, evaluations=32)
SCORE_REPLAY = ScoreReplaySettings(**SHARED, evaluations=64, inner=20)
LOW_FIDELITIES = {
    "constant": lambda x, y: torch.zeros_like(x),
    "scaled": lambda x, y: 3 * y,
    "NaN in places": lambda x, y: torch.where(x[:, :1] > 0.5, torch.nan, y),
    "of another physics": lambda x, y: torch.cos(3 * y) + y.flip(1),
}


class Outcome(NamedTuple):
    verdict: str
    divergence: float
    warning: str

    @property
    def honest(self) -> bool:
        return self.verdict != TRUSTWORTHY or self.divergence < WRONG


def fine_tuned(
    folder: Path, *, low: str = "", fault: str = "", method: FinetuningSettings = SURROGATE, far=1.0
) -> Outcome:
    """The two-parameter problem of the paper, with a fault, from random weights."""
    problem = Rosenbrock()
    true, y = problem.simulate(1, torch.Generator().manual_seed(1), "high", torch.float64)
    y = y if far == 1 else problem.high_fidelity(far * true)
    exact, operator = problem.exact_posterior(y), problem.high_fidelity
    if low:
        function = LOW_FIDELITIES[low]
        problem.low_fidelity = AnyFunction(operator, lambda x: function(x, operator(x)))
    if fault:
        limit = float(exact.mean[0] + 0.7 * exact.std[0])  # a quarter of the posterior is beyond
        problem.high_fidelity = Faulty(operator, fault, limit)
    torch.manual_seed(0)
    flow = build_flow("coupling", (2,), (2,), depth=4, hidden=16)
    start = problem.sample_prior(256, torch.Generator().manual_seed(3))
    flow.initialise_inverse(64, y.float(), torch.Generator().manual_seed(4), start)
    target = Target(problem, y.float())
    objective, _ = fine_tune_by_settings(flow, method, target, folder)
    x, log_q = drawn(flow, target)
    divergence = float((log_q.double() - exact.log_density(x.double())).mean())
    return Outcome(verdict_of(flow, target, x, log_q), divergence, objective.warning)


@torch.no_grad()
def drawn(flow: Flow, target: Target) -> tuple[Tensor, Tensor]:
    return flow.sample_with_log_prob(target.summary, 3000, torch.Generator().manual_seed(5))


@torch.no_grad()
def verdict_of(flow: Flow, target: Target, x: Tensor, log_q: Tensor) -> str:
    """As stages sample and evaluate come to it."""
    problem = target.problem
    prediction, log_density = target.predict(x)
    prior = problem.sample_prior(1000, torch.Generator().manual_seed(9))
    metrics = without_reference(
        x,
        log_q,
        log_density - log_q,
        problem.noise.chi_square(target.y - prediction),
        target.y.numel(),
        score_error=latent_score_error(flow, target, x[:256]),
        prior_log_likelihood=problem.log_likelihood(target.y, target.predict(prior)[0]),
        prior_log_q=flow.log_prob(prior, target.summary),
    )
    rules, linear = asdict(VerdictSettings()), problem.high_fidelity.linear
    return judge(metrics, rules, unknowns=2, fine_tuned=True, linear=linear).verdict


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    monkeypatch.setattr(surrogate, "FEW_STEPS", 200)
    monkeypatch.setattr(ratio_training, "CYCLE", 200)


def cases(names, short):
    return [name if name in short else pytest.param(name, marks=pytest.mark.long) for name in names]


@pytest.mark.parametrize("low", cases(LOW_FIDELITIES, {"NaN in places"}))
def test_a_wrong_low_fidelity_costs_evaluations_and_no_truth(low, tmp_path):
    outcome = fine_tuned(tmp_path, low=low)
    assert outcome.divergence < WRONG and outcome.verdict == TRUSTWORTHY, outcome
    unusable = low in ("constant", "NaN in places")
    assert ("takes no part in the model of F" in outcome.warning) == unusable, outcome


@pytest.mark.parametrize("fault", cases(["sign", "noise", "NaN"], {"sign"}))
def test_a_faulty_operator_gives_an_honest_verdict(fault, tmp_path):
    outcome = fine_tuned(tmp_path, fault=fault)
    assert outcome.honest, outcome
    if fault in ("sign", "NaN"):
        assert outcome.verdict == DO_NOT_USE, outcome


@pytest.mark.long
def test_data_far_outside_the_predictions_of_the_prior(tmp_path):
    assert fine_tuned(tmp_path, far=30.0).verdict == DO_NOT_USE


@pytest.mark.long
def test_score_replay_of_scores_of_the_wrong_sign(tmp_path):
    outcome = fine_tuned(tmp_path, fault="sign", method=SCORE_REPLAY)
    assert outcome.divergence > WRONG and outcome.verdict != TRUSTWORTHY, outcome
