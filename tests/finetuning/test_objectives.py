"""Every kind of method trains through the stage's own table, spends its budget exactly, and comes
closer to the posterior.
"""

from __future__ import annotations

import pytest
import torch

from pflow.config.methods import (
    ImportanceSettings,
    LatentGaussianSettings,
    ReverseKLSettings,
    ScoreReplaySettings,
    SurrogateSettings,
)
from pflow.errors import PflowError
from pflow.finetuning.objectives import objective_of, uses_gradient, wrap
from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.problems import build_problem
from tests.support.fine_tuning import divergence, fine_tune_by_settings

SHARED = {"flow": "coupling", "start": "pretrained", "evaluations": 256}
METHODS = {
    "score replay": ScoreReplaySettings(**SHARED, inner=20),
    "hybrid": ScoreReplaySettings(**SHARED, inner=20, finish=0.5),
    "path gradients": ReverseKLSettings(**SHARED, batch=8, learning_rate=1e-2),
    "annealed": ReverseKLSettings(**SHARED, batch=8, learning_rate=1e-2, anneal=0.5),
    "latent, closed form": LatentGaussianSettings(**SHARED),
    "latent, low rank": LatentGaussianSettings(
        **SHARED, fit="reverse_kl", covariance="low_rank", rank=2, batch=8, learning_rate=5e-2
    ),
    "latent, diagonal": LatentGaussianSettings(
        **SHARED, fit="reverse_kl", covariance="diagonal", batch=8, learning_rate=5e-2
    ),
    "importance": ImportanceSettings(**SHARED, draw=64, learning_rate=5e-3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_method_spends_its_budget_and_comes_closer(name, tmp_path):
    method, problem = METHODS[name], build_problem("gaussian", side=2)
    y = problem.simulate(1, torch.Generator().manual_seed(1), "high")[1]
    torch.manual_seed(0)
    architecture = {
        "name": "coupling",
        "model_shape": [4],
        "data_shape": [4],
        "depth": 4,
        "hidden": 16,
    }
    flow = build_flow(**architecture)
    flow.initialise_inverse(8, y)
    flow, described = wrap(flow, architecture, method, problem)
    target, exact = (
        Target(problem, y, gradient=uses_gradient(method, problem)),
        problem.exact_posterior(y),
    )

    before = divergence(flow, exact, y)
    _, state = fine_tune_by_settings(flow, method, target, tmp_path)
    assert target.ledger.evaluations == 256
    assert "256 evaluations" in state.stop_reason
    assert before > 1 and divergence(flow, exact, y) < 0.5 * before
    again = build_flow(**described)
    again.load_state_dict(flow.state_dict())
    assert torch.equal(again.log_prob(exact.mean[None], y), flow.log_prob(exact.mean[None], y))


def test_data_too_large_for_a_model_of_f_are_refused():
    problem = build_problem("gaussian", side=4)
    target = Target(problem, torch.zeros(1, *problem.data_shape))
    method = SurrogateSettings(**SHARED, memory_gb=1e-4)
    with pytest.raises(PflowError, match="`memory_gb` is 0.0001: choose score_replay"):
        objective_of(method, target)


def test_a_model_of_f_in_few_parameters_trains_the_given_flow_under_splines():
    architecture = {"name": "coupling", "model_shape": [4], "data_shape": [4], "depth": 2}
    flow, x, y = build_flow(**architecture), torch.randn(5, 4), torch.zeros(1, 4)
    problem = build_problem("gaussian", side=2)
    wrapped, described = wrap(flow, architecture, SurrogateSettings(**SHARED), problem)
    assert torch.equal(wrapped.log_prob(x, y), flow.log_prob(x, y))
    again = build_flow(**described)
    wrapped.wake()
    again.load_state_dict(wrapped.state_dict())
    assert torch.equal(again.log_prob(x, y), wrapped.log_prob(x, y))
