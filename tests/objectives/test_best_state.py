"""The best state seen is what a run ends with, told by draws that were evaluated anyway."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from pflow.config.methods import ImportanceSettings, LatentGaussianSettings, ReverseKLSettings
from pflow.execution.seeds import generator_for
from pflow.finetuning.objectives import objective_of, uses_gradient, wrap
from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.objectives.best_state import BestState
from pflow.problems import build_problem
from tests.support.fine_tuning import divergence

SHARED = {"flow": "coupling", "start": "pretrained"}


def new_flow(y):
    torch.manual_seed(0)
    architecture = {
        "name": "coupling",
        "model_shape": [4],
        "data_shape": [4],
        "depth": 3,
        "hidden": 16,
    }
    flow = build_flow(**architecture)
    flow.initialise_inverse(8, y)
    return flow, architecture


def run(method, problem, y, harm_after):
    """Fine-tune; every step after so many evaluations moves all weights at random."""
    flow, architecture = new_flow(y)
    flow, _ = wrap(flow, architecture, method, problem)
    target = Target(problem, y, gradient=uses_gradient(method, problem))
    objective, _ = objective_of(method, target)
    generator, harm = generator_for(0, "run"), torch.Generator().manual_seed(9)
    parameters = [parameter for parameter in flow.parameters() if parameter.requires_grad]
    adam = torch.optim.Adam(parameters, 1e-2)
    while not objective.begin(flow, generator):
        loss, _ = objective.loss(flow, generator)
        if loss is not None:
            adam.zero_grad()
            loss.backward()
            adam.step()
        if target.ledger.evaluations > harm_after:
            with torch.no_grad():
                for parameter in parameters:
                    parameter.add_(0.3 * torch.randn(parameter.shape, generator=harm))
    return flow, objective


METHODS = {
    "path": ReverseKLSettings(**SHARED, evaluations=3072, batch=32),
    "total": ReverseKLSettings(**SHARED, evaluations=3072, batch=32, gradient="total"),
    "latent, closed form": LatentGaussianSettings(**SHARED, evaluations=768, batch=32),
    "latent, path": LatentGaussianSettings(**SHARED, evaluations=3072, fit="reverse_kl"),
    "importance": ImportanceSettings(**SHARED, evaluations=1024, draw=64, inner=40),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_late_divergence_costs_nothing(name):
    method, problem = METHODS[name], build_problem("gaussian", side=2)
    y = problem.simulate(1, torch.Generator().manual_seed(1), "high")[1]
    exact = problem.exact_posterior(y)
    whole = divergence(
        run(
            dataclasses.replace(method, evaluations=int(0.7 * method.evaluations)),
            problem,
            y,
            math.inf,
        )[0],
        exact,
        y,
    )
    flow, objective = run(method, problem, y, harm_after=0.8 * method.evaluations)
    assert divergence(flow, exact, y) < 2 * whole + 0.1
    if isinstance(method, ReverseKLSettings):
        assert "put back" in objective.stop_reason


@pytest.mark.slow
def test_the_papers_recipe_keeps_its_last_state():
    problem = build_problem("gaussian", side=2)
    y = problem.simulate(1, torch.Generator().manual_seed(1), "high")[1]
    method = ReverseKLSettings(**SHARED, evaluations=1024, batch=32, keep="last")
    flow, objective = run(method, problem, y, harm_after=900)
    assert divergence(flow, problem.exact_posterior(y), y) > 10
    assert "put back" not in objective.stop_reason


def test_a_target_that_fails_late_ends_the_run_with_its_best_state():
    problem = build_problem("gaussian", side=2)
    y = problem.simulate(1, torch.Generator().manual_seed(1), "high")[1]
    inner, asked = problem.log_likelihood, []
    problem.log_likelihood = lambda y, prediction: (
        asked.append(1) or inner(y, prediction) * (torch.nan if len(asked) > 12 else 1.0)
    )
    flow, objective = run(
        ReverseKLSettings(**SHARED, evaluations=1024, batch=32), problem, y, harm_after=1e9
    )
    assert "NaN or infinite" in objective.stop_reason and "put back" in objective.stop_reason
    assert all(torch.isfinite(tensor).all() for tensor in flow.state_dict().values())


def test_noise_is_no_loss_and_a_loss_is_no_noise():
    flow, best, generator = torch.nn.Linear(1, 1), BestState(64), torch.Generator().manual_seed(0)
    for _ in range(20):
        assert best.see(flow, 2 * torch.randn(64, generator=generator))
    with torch.no_grad():
        flow.weight.add_(1.0)
    kept = best.weights["weight"].clone()
    assert not best.see(flow, 2 * torch.randn(64, generator=generator) - 2.5)
    assert torch.equal(best.weights["weight"], kept)
    assert best.settle(flow) and torch.equal(flow.weight, kept)


def test_many_small_losses_add_up_to_one():
    flow, best = torch.nn.Linear(1, 1), BestState(64)
    around = torch.linspace(-1, 1, 64)
    judged = [best.see(flow, around - 0.05 * step) for step in range(40)]
    assert judged[0] and not judged[-1]
