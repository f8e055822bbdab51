"""The Gaussian of a latent under the posterior of a linear F: its steps, and its spread."""

from __future__ import annotations

import pytest
import torch

from pflow.flows import build_flow
from pflow.flows.latent import DenseAffine, LatentGaussian
from pflow.objectives.linear import latent_steps
from pflow.objectives.linear.latent_posterior import LatentPosterior, spread_of
from pflow.objectives.linear.latent_steps import LatentSteps

SIZE = 6


class Normal:
    """N(mean, covariance) as the posterior of a linear F, with what it was asked."""

    def __init__(self, mean, covariance):
        self.mean, self.precision = mean, torch.linalg.inv(covariance)

    def value_and_score(self, x):
        centred = x.detach() - self.mean
        score = -centred @ self.precision
        return 0.5 * (centred * score).sum(1), score


@pytest.fixture
def posterior():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    covariance = 0.3 * (root @ root.T / SIZE + 0.2 * torch.eye(SIZE, dtype=torch.float64))
    return Normal(torch.linspace(-1, 1, SIZE, dtype=torch.float64), covariance)


@pytest.fixture(params=["dense", "principal"])
def flow(request):
    """A coupling flow that is the identity, under a latent that is N(0, I)."""
    shapes = {"model_shape": (SIZE,), "data_shape": (1,)}
    base = build_flow("coupling", **shapes, depth=2, hidden=8)
    base.initialised.fill_(True)
    return LatentGaussian((SIZE,), (1,), base=base, covariance=request.param).double()


@torch.no_grad()
def moments(flow):
    """Of z."""
    root = flow.latent.pull(torch.eye(SIZE).double())
    return flow.latent.mean.clone(), root.T @ root


def place(flow, mean, covariance):
    """Make z N(mean, covariance)."""
    if isinstance(flow.latent, DenseAffine):
        flow.latent.set_moments(mean, covariance)
    else:
        variances, vectors = torch.linalg.eigh(covariance.double())
        flow.latent.set_covariance(mean, vectors, variances)


@torch.no_grad()
def steps(flow, posterior, seed=0):
    found, generator = LatentSteps(), torch.Generator().manual_seed(seed)
    y = torch.zeros(1, 1, dtype=torch.float64)
    while not found.finished:
        found.advance(flow, y, posterior, generator)
    return found


@torch.no_grad()
def test_steps_end_at_a_gaussian_posterior(flow, posterior):
    found = steps(flow, posterior)
    exact = torch.linalg.inv(posterior.precision)
    y = torch.zeros(1, 1, dtype=torch.float64)
    x, log_q = flow.sample_with_log_prob(y, 2000, torch.Generator().manual_seed(5))
    normal = torch.distributions.MultivariateNormal(posterior.mean, exact)
    assert float((log_q - normal.log_prob(x)).mean()) < 1e-3
    assert found.score_error < 1e-3
    # the divergence of N(0, I) is what the steps gained
    gap = 0.5 * (
        posterior.precision.trace()
        + posterior.mean @ posterior.precision @ posterior.mean
        - SIZE
        + torch.logdet(exact)
    )
    assert found.elbo[-1] - found.elbo[0] == pytest.approx(float(gap), rel=0.1)


def test_a_step_that_loses_is_taken_back(flow, posterior, monkeypatch):
    def far_off(latent, w, r, size):
        latent.mean.fill_(50.0)

    monkeypatch.setattr(latent_steps, "natural_step", far_off)
    found = steps(flow, posterior)
    assert (
        found.finished.startswith("the last step of the latent was taken back")
        and len(found.elbo) == 1
    )
    mean, covariance = moments(flow)
    assert not mean.any() and torch.equal(covariance, torch.eye(SIZE).double())


def test_saved_steps_go_on_to_the_bit(flow, posterior):
    found, generator = LatentSteps(), torch.Generator().manual_seed(0)
    y = torch.zeros(1, 1, dtype=torch.float64)
    for _ in range(2):
        found.advance(flow, y, posterior, generator)
    weights = {name: part.clone() for name, part in flow.state_dict().items()}
    again = LatentSteps()
    again.load_state_dict(found.state_dict())
    state = generator.get_state()
    found.advance(flow, y, posterior, generator)
    expected = moments(flow)
    flow.load_state_dict(weights)
    generator.set_state(state)
    again.advance(flow, y, posterior, generator)
    assert all(map(torch.equal, moments(flow), expected)) and again.elbo == found.elbo


def test_the_posterior_in_the_latent_has_the_score_of_autograd(flow, posterior):
    """Through a base that is not the identity."""
    generator = torch.Generator().manual_seed(1)
    for parameter in flow.base.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator).double()
    place(flow, torch.ones(SIZE).double(), 0.5 * torch.eye(SIZE).double())
    y = torch.zeros(1, 1, dtype=torch.float64)
    latent = LatentPosterior(flow, y, posterior)
    w = torch.randn(3, SIZE, generator=generator, dtype=torch.float64).requires_grad_()
    x, log_determinant = flow.inverse(w, y)
    centred = x - posterior.mean
    expected = -0.5 * (centred @ posterior.precision * centred).sum(1) + log_determinant
    value, score = latent.value_and_score(w)
    constant = flow.latent(w)[1].detach()
    torch.testing.assert_close(value, (expected - constant).detach())
    torch.testing.assert_close(score, torch.autograd.grad(expected.sum(), w)[0])


def test_the_spread_is_that_of_the_posterior(flow):
    """Chains of a posterior a tenth wider than the latent say so, and of an equal one 1."""
    y = torch.zeros(1, 1, dtype=torch.float64)
    for width in (1.0, 1.1):
        wide = Normal(torch.zeros(SIZE).double(), width**2 * torch.eye(SIZE).double())
        latent = LatentPosterior(flow, y, wide)
        spread = spread_of(latent, 1.3, torch.Generator().manual_seed(0))
        assert spread == pytest.approx(width, abs=0.01)


@torch.no_grad()
def test_stretching_multiplies_the_covariance(flow):
    place(flow, torch.ones(SIZE), torch.eye(SIZE) + 0.1)
    _, before = moments(flow)
    flow.latent.stretch(1.1)
    mean, after = moments(flow)
    torch.testing.assert_close(after, 1.21 * before)
    assert torch.equal(mean, torch.ones(SIZE).double())
    half = float(0.5 * torch.logdet(after))
    assert float(flow.latent(mean[None])[1]) == pytest.approx(half)


@torch.no_grad()
def test_a_frozen_map_follows_whatever_sets_it(flow):
    """What it keeps from call to call is that of its weights, and no gradient reaches them."""
    latent, w = flow.closed, torch.ones(2, SIZE).double()
    latent.freeze()
    before = {name: part.clone() for name, part in latent.state_dict().items()}
    start = latent(w)[0]
    place(flow, torch.ones(SIZE).double(), 4.0 * torch.eye(SIZE).double())
    torch.testing.assert_close(latent(w)[0], 1 + 2 * w)
    latent.stretch(3.0)
    torch.testing.assert_close(latent(w)[0], 1 + 6 * w)
    torch.testing.assert_close(latent.float()(w.float())[0], (1 + 6 * w).float())
    torch.testing.assert_close(latent.double()(w)[0], 1 + 6 * w)
    latent.load_state_dict(before)
    torch.testing.assert_close(latent(w)[0], start)
    assert not any(weight.requires_grad for weight in latent.parameters())
