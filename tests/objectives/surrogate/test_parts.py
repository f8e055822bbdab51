"""The parts between an affine model and a posterior: what they compute where the answer is
known."""

from __future__ import annotations

import math

import pytest
import torch

from pflow.flows import build_flow
from pflow.objectives.surrogate.additive import AdditiveResidual
from pflow.objectives.surrogate.coordinates import WhitenedData, WhitenedModel
from pflow.objectives.surrogate.flow_training import PATIENCE, FlowTraining
from pflow.objectives.surrogate.gaussian import gauss_newton
from pflow.objectives.surrogate.operator_model import LowFidelity, OperatorModel
from pflow.objectives.surrogate.particles import Particles
from pflow.objectives.surrogate.tempering import tempered_draws
from pflow.problems import build_problem
from pflow.problems.noise import IndependentNoise, StudentTNoise


def model_of(problem, y, low=None):
    """The posterior of an operator as if it were the whole of F."""
    coordinates = WhitenedModel(problem, torch.Generator().manual_seed(0))
    data = WhitenedData(problem, y)
    return OperatorModel(LowFidelity(low or problem.high_fidelity, coordinates, data), None)


def observed(problem, seed=1):
    return problem.simulate(1, torch.Generator().manual_seed(seed), "high", torch.float64)[1]


def test_an_additive_function_is_learnt_to_rounding():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    weights = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)

    def function(x):
        return sum(x ** (k + 1) @ weights[k] for k in range(3))

    fit = AdditiveResidual(x, function(x), torch.ones(60).double(), x.mean(0), x.std(0))
    fresh = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(fit.mean(fresh), function(fresh), atol=1e-3, rtol=1e-3)
    at = fresh[0].clone().requires_grad_()
    expected = torch.autograd.functional.jacobian(lambda a: fit.mean(a[None])[0], at)
    torch.testing.assert_close(fit.jacobian(fresh[0]), expected)
    assert fit.error < 1e-3 < fit.before
    assert fit.bound == math.inf


def test_an_additive_function_that_no_polynomial_follows_is_bounded_far_away():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 6, generator=generator, dtype=torch.float64)
    weights = torch.randn(6, 3, generator=generator, dtype=torch.float64)

    def function(x):
        return torch.tanh(3 * x) @ weights

    fit = AdditiveResidual(x, function(x), torch.ones(80).double(), x.mean(0), x.std(0))
    assert fit.bound < math.inf
    far = 8 * torch.eye(6, dtype=torch.float64)
    error = (fit.mean(far) - function(far)).square().mean().sqrt()
    assert error < 2 * function(x).std()
    at = far[0] + 0.5  # one parameter beyond the bound
    expected = torch.autograd.functional.jacobian(lambda a: fit.mean(a[None])[0], at)
    torch.testing.assert_close(fit.jacobian(at), expected)


def test_what_is_noise_is_left_alone():
    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(40, k, generator=generator, dtype=torch.float64) for k in (8, 3))
    fit = AdditiveResidual(x, noise, torch.ones(40).double(), x.mean(0), x.std(0))
    assert fit.ridge >= 10 and fit.mean(x).square().mean() < 0.5


def test_coordinates_and_back():
    problem = build_problem("gaussian", side=3)
    coordinates = WhitenedModel(problem, torch.Generator().manual_seed(0))
    x = problem.sample_prior(4, torch.Generator().manual_seed(1), torch.float64)
    v = coordinates.whiten(x)
    torch.testing.assert_close(coordinates.model(v), x)
    expected = problem.log_prior(x) + coordinates.log_determinant
    torch.testing.assert_close(coordinates.log_prior(v), expected)
    torch.testing.assert_close(coordinates.push(coordinates.pull(x)), x)


@pytest.mark.parametrize(
    "noise", [IndependentNoise((4,), 0.3), StudentTNoise((4,), 4.0, 0.3)], ids=["normal", "student"]
)
def test_the_likelihood_in_whitened_data_is_that_of_the_noise(noise):
    problem = build_problem("gaussian", side=2)
    problem.noise = noise
    y = torch.randn(1, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prediction = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data = WhitenedData(problem, y)
    residual = data.observed - data.whiten(prediction)
    expected = noise.log_likelihood(y - prediction)
    torch.testing.assert_close(data.log_likelihood(residual), expected)
    w = data.whiten(prediction).requires_grad_()
    (gradient,) = torch.autograd.grad(data.log_likelihood(data.observed - w).sum(), w)
    torch.testing.assert_close(data.pull(residual), gradient)


def test_gauss_newton_is_exact_for_a_linear_operator():
    problem = build_problem("gaussian", side=3)
    y = observed(problem)
    frame = gauss_newton(model_of(problem, y), torch.zeros(9, dtype=torch.float64))
    exact = problem.exact_posterior(y)
    coordinates = WhitenedModel(problem, torch.Generator().manual_seed(0))
    torch.testing.assert_close(coordinates.model(frame.mean[None])[0], exact.mean.double())
    root = coordinates.root @ torch.linalg.inv(frame.factor.T)
    torch.testing.assert_close(root.square().sum(1).sqrt(), exact.std.double())


def test_gauss_newton_finds_the_mode_of_a_nonlinear_operator():
    problem = build_problem("lognormal", side=3, strength=1.0)
    model = model_of(problem, observed(problem))
    frame = gauss_newton(model, torch.zeros(9, dtype=torch.float64))
    _, score = model.value_and_score(frame.mean[None])
    assert frame.pull(score).norm() < 0.1  # in posterior standard deviations


def test_particles_have_the_moments_of_the_posterior():
    problem = build_problem("gaussian", side=2)
    y = observed(problem)
    model, exact = model_of(problem, y), problem.exact_posterior(y)
    frame = gauss_newton(model, torch.zeros(4, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    far = torch.randn(512, 4, generator=generator, dtype=torch.float64) * 3 + 2
    particles = Particles(far)
    particles.move(model, frame, 40, generator)
    x = model.model.model(particles.points)
    assert 0.6 < particles.acceptance < 0.98
    assert ((x.mean(0) - exact.mean).abs() < 5 * exact.std / math.sqrt(512)).all()
    torch.testing.assert_close(x.std(0), exact.std.double(), rtol=0.15, atol=0)


def test_tempering_finds_both_modes_in_their_proportion():
    problem = build_problem("bimodal")
    y = torch.tensor([[1.3, 0.2]], dtype=torch.float64)
    model = model_of(problem, y)
    exact = problem.exact_posterior(y).sample(4000, torch.Generator().manual_seed(3))
    x = model.model.model(tempered_draws(model, 4096, torch.Generator().manual_seed(0)))
    right, expected = float((x[:, 0] > 0).double().mean()), float((exact[:, 0] > 0).double().mean())
    assert abs(right - expected) < 0.06
    for side in (-1, 1):
        ours, theirs = x[side * x[:, 0] > 0].abs(), exact[side * exact[:, 0] > 0].abs()
        torch.testing.assert_close(ours.mean(0), theirs.mean(0).double(), atol=0.05, rtol=0)


def test_training_ends_when_held_out_draws_like_no_newer_weights():
    """The weights get worse on purpose: the first ones come back, whatever is checkpointed."""
    flow = build_flow("coupling", (4,), (2,), depth=2, hidden=4)
    generator, y = torch.Generator().manual_seed(0), torch.zeros(1, 2)
    training = FlowTraining(y, torch.randn(64, 4, generator=generator))
    training.likelihood_loss(flow, 1, generator)
    first = {name: weight.clone() for name, weight in flow.state_dict().items()}
    for _ in range(PATIENCE):
        assert not training.ended
        with torch.no_grad():
            flow.actnorm.shift += 1.0
        training.likelihood_loss(flow, 1, generator)
    resumed = FlowTraining(y)
    resumed.load_state_dict(training.state_dict())
    assert training.ended and resumed.ended
    resumed.keep_best(flow)
    assert all(torch.equal(weight, first[name]) for name, weight in flow.state_dict().items())
