"""Forward KL from values alone: the weights are those of the mixture, and a posterior is found
without one gradient.
"""

from __future__ import annotations

import pytest
import torch

from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.objectives.importance import KEPT, Importance, tempering_power
from pflow.objectives.stopping import Stopping, effective_fraction
from pflow.problems import build_problem
from tests.support.fine_tuning import divergence


def test_tempering_leaves_the_share_it_promises():
    log_weight = 10 * torch.randn(
        500, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    power = tempering_power(log_weight)
    assert 0 < power < 1 and effective_fraction(power * log_weight) == pytest.approx(KEPT, rel=1e-3)
    assert tempering_power(torch.zeros(10)) == 1.0


def test_a_posterior_is_found_without_a_gradient():
    problem = build_problem("gaussian", side=2)
    y = problem.simulate(1, torch.Generator().manual_seed(1), "high")[1]
    exact, forward = problem.exact_posterior(y), problem.high_fidelity.forward

    def without_gradient(x):
        assert not torch.is_grad_enabled() and not x.requires_grad
        return forward(x)

    problem.high_fidelity.forward = without_gradient
    torch.manual_seed(0)
    flow = build_flow("coupling", (4,), (4,), depth=4, hidden=16)
    flow.initialise_inverse(8, y)
    objective, generator = (
        Importance(Target(problem, y, gradient=False), Stopping(1024), 128, 60, 128),
        torch.Generator().manual_seed(0),
    )
    optimiser = torch.optim.Adam(flow.parameters(), 5e-3)

    before = divergence(flow, exact, y)
    while not objective.begin(flow, generator):
        optimiser.zero_grad()
        objective.loss(flow, generator)[0].backward()
        optimiser.step()
    assert before > 1 and divergence(flow, exact, y) < 0.2
    assert objective.target.ledger.evaluations == 1024
    assert objective.power > 0.9


def test_weights_are_those_of_the_deterministic_mixture():
    problem, y = build_problem("rosenbrock"), torch.tensor([[1.0, 2.0]])
    torch.manual_seed(0)
    flow = build_flow("coupling", (2,), (2,), depth=2, hidden=8)
    objective, generator = (
        Importance(Target(problem, y, gradient=False), Stopping(40), 20, 1, 8),
        torch.Generator().manual_seed(0),
    )
    objective._undo_what_did_harm = lambda flow: None  # the shifts below would be
    proposals = []
    for shift in (0.3, -0.2):
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter += shift
        proposals.append({name: tensor.clone() for name, tensor in flow.state_dict().items()})
        objective.begin(flow, generator)
    densities = []
    for weights in proposals:
        flow.load_state_dict(weights)
        densities.append(flow.log_prob(objective.x, y).detach())
    log_weight = objective.log_density - (torch.stack(densities).exp().mean(0)).log()
    expected = torch.softmax(tempering_power(log_weight.double()) * log_weight.double(), 0)
    torch.testing.assert_close(objective.weight, expected, rtol=1e-4, atol=1e-6)
