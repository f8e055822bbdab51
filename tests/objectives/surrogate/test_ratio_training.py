"""Training by the log-variance: what it sees that scores do not, and when it ends."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from pflow.flows import build_flow
from pflow.flows.spline_latent import SplineLatent
from pflow.objectives.surrogate.ratio_training import GOOD, PATIENCE, RatioTraining
from tests.support.surrogate import OPTIMISER

Y = torch.zeros(1, 2)
MODES, WIDTH = torch.tensor([[-2.0, 1.0], [2.0, -1.0]]), 0.3


def modes(mass: float) -> SimpleNamespace:
    """Two normal distributions, the right one of `mass`, as the posterior of a model."""

    def log_density(x):
        parts = -0.5 * ((x[:, None] - MODES) / WIDTH).square().sum(2)
        return torch.logsumexp(parts + torch.tensor([1 - mass, mass]).log(), 1) + 3.0

    return SimpleNamespace(log_density=log_density, model=SimpleNamespace(whiten=lambda x: x))


def draws_of(mass: float, count: int = 2048):
    generator = torch.Generator().manual_seed(0)
    right = (torch.rand(count, generator=generator) < mass).long()
    return MODES[right] + WIDTH * torch.randn(count, 2, generator=generator)


class Exact(torch.nn.Module):
    """A flow that is known: the two modes, the right one of `mass`."""

    def __init__(self, mass):
        super().__init__()
        self.mass, self.density = mass, modes(mass)
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def log_prob(self, x, y):
        return self.density.log_density(x) - 3.0 - math.log(2 * math.pi * WIDTH**2) + self.weight

    def sample(self, y, count, generator):
        return draws_of(self.mass, count)


def judged(flow, posterior) -> RatioTraining:
    training, generator = RatioTraining(Y), torch.Generator().manual_seed(1)
    training.start(draws_of(0.5), posterior, flow)
    training.close_cycle(flow, posterior, training.cycle, generator)
    return training


def test_the_loss_is_zero_at_the_posterior_and_kl_beside_it():
    """Modes whose shape is right and whose mass is not: no score sees it."""
    assert judged(Exact(0.5), modes(0.5)).best_loss < 1e-8
    wrong = judged(Exact(0.4), modes(0.5)).best_loss
    kl = 0.4 * math.log(0.4 / 0.5) + 0.6 * math.log(0.6 / 0.5)
    assert wrong == pytest.approx(kl, rel=0.1)


def test_it_ends_when_the_flow_is_good_or_no_cycle_helps():
    flow, posterior, generator = Exact(0.5), modes(0.5), torch.Generator().manual_seed(0)
    assert judged(flow, posterior).ended
    flow = Exact(0.4)
    training = judged(flow, posterior)
    assert not training.ended and training.best_loss > GOOD
    best = flow.weight.detach().clone()
    for cycle in range(PATIENCE):
        assert not training.ended
        with torch.no_grad():
            flow.weight += 1.0
        training.close_cycle(flow, posterior, (2 + cycle) * training.cycle, generator)
    assert training.ended and torch.equal(flow.weight, best)


def coupling() -> SplineLatent:
    torch.manual_seed(0)
    base = {"name": "coupling", "model_shape": (2,), "data_shape": (2,), "depth": 4, "hidden": 16}
    return SplineLatent((2,), (2,), build_flow(**base))


def test_a_poor_flow_begins_anew_with_splines():
    flow, posterior = coupling(), modes(0.5)
    first = {name: weight.clone() for name, weight in flow.state_dict().items()}
    training = RatioTraining(Y)
    training.start(draws_of(0.5), posterior, flow)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.1
    training.close_cycle(flow, posterior, training.cycle, torch.Generator().manual_seed(0))
    assert flow.awake and training.begun and not training.ended
    kept = {name: weight for name, weight in flow.state_dict().items() if name != "awake"}
    assert all(torch.equal(weight, first[name]) for name, weight in kept.items())


@pytest.mark.slow
def test_splines_learn_two_modes_and_their_mass():
    flow, posterior, generator = coupling(), modes(0.3), torch.Generator().manual_seed(0)
    training, steps = RatioTraining(Y), 800
    training.start(draws_of(0.3), posterior, flow)
    flow.wake()
    training.begun = -1
    adam = torch.optim.Adam(flow.parameters(), OPTIMISER.learning_rate, OPTIMISER.betas)
    for step in range(steps):
        factor = training.learning_rate_factor(step, step / steps)
        adam.param_groups[0]["lr"] = OPTIMISER.learning_rate * factor
        adam.zero_grad()
        training.loss(flow, posterior, step + 1, generator)[0].backward()
        adam.step()
    with torch.no_grad():
        x, log_q = flow.sample_with_log_prob(Y, 8000, generator)
    exact = Exact(0.3).log_prob(x, Y).detach()
    assert abs(float((x[:, 0] > 0).float().mean()) - 0.3) < 0.02
    assert float((log_q - exact).mean()) < 0.1
