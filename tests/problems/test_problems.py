"""What every problem owes, one test for all: priors, noise and likelihood fit together, in every
dtype.
"""

from __future__ import annotations

import math

import pytest
import torch

from pflow.errors import PflowError
from pflow.operators import IdentityOperator, check_operator
from pflow.problems import PROBLEMS, Gaussian, Problem, Rosenbrock, build_problem
from pflow.problems.priors import MaternField
from tests.support.type_checks import unchecked

DTYPES = [torch.float32, torch.float64]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=[Rosenbrock(mu=0.3), Gaussian(side=3)], ids=lambda problem: problem.name)
def problem(request):
    return request.param


@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_and_dtypes(problem, dtype):
    x, y = problem.simulate(5, seeded(), "high", dtype)
    assert x.shape == (5, *problem.model_shape) and y.shape == (5, *problem.data_shape)
    log_prior, log_likelihood = (
        problem.log_prior(x),
        problem.log_likelihood(y[:1], problem.high_fidelity(x)),
    )
    assert log_prior.shape == log_likelihood.shape == (5,)
    assert {x.dtype, y.dtype, log_prior.dtype, log_likelihood.dtype} == {dtype}
    assert len(problem.parameter_names) == len(set(problem.parameter_names)) == x[0].numel()


def test_draws_are_the_same_in_every_dtype(problem):
    single, double = (problem.simulate(50, seeded(), "high", dtype) for dtype in DTYPES)
    for rounded, exact in zip(single, double, strict=True):
        torch.testing.assert_close(rounded.double(), exact, rtol=1e-5, atol=1e-5)
    assert not torch.equal(problem.sample_prior(5, seeded(0)), problem.sample_prior(5, seeded(1)))


def test_sampling_leaves_the_global_generator_alone(problem):
    state = torch.get_rng_state()
    problem.simulate(5, seeded())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("fidelity", ["low", "high"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_operators_pass_their_checks(problem, fidelity, dtype):
    check_operator(problem.operator(fidelity), problem.sample_prior(8, seeded(), dtype), seeded())


def test_noise_is_white_with_its_standard_deviation(problem):
    x, y = problem.simulate(40_000, seeded(), "high", torch.float64)
    noise = (y - problem.high_fidelity(x)) / problem.noise_std
    size = noise[0].numel()
    torch.testing.assert_close(
        torch.cov(noise.T), torch.eye(size, dtype=torch.float64), rtol=0, atol=0.03
    )
    torch.testing.assert_close(
        noise.mean(0), torch.zeros(size, dtype=torch.float64), rtol=0, atol=0.03
    )


def test_log_likelihood_is_the_normal_density(problem):
    x, y = problem.simulate(6, seeded(), "low", torch.float64)
    prediction = problem.low_fidelity(x)
    expected = torch.distributions.Normal(prediction, problem.noise_std).log_prob(y).sum(1)
    torch.testing.assert_close(problem.log_likelihood(y, prediction), expected)
    broadcast = problem.log_likelihood(y[:1], prediction)
    torch.testing.assert_close(broadcast, problem.log_likelihood(y[:1].expand_as(y), prediction))


def test_scores_of_the_prior_are_finite_and_right(problem):
    x = problem.sample_prior(3, seeded(), torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(problem.log_prior, x)


@pytest.mark.parametrize("fidelity", ["low", "high"])
def test_posterior_is_likelihood_times_prior_over_evidence(problem, fidelity):
    _, y = problem.simulate(1, seeded(1), fidelity, torch.float64)
    posterior = problem.exact_posterior(y, fidelity)
    x = torch.cat(
        [posterior.sample(50, seeded(2)), problem.sample_prior(50, seeded(3), torch.float64)]
    )
    log_likelihood = problem.log_likelihood(y, problem.operator(fidelity)(x))
    bayes = log_likelihood + problem.log_prior(x) - posterior.log_evidence
    torch.testing.assert_close(posterior.log_density(x), bayes, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("fidelity", ["low", "high"])
def test_evidence_against_monte_carlo(problem, fidelity):
    _, y = problem.simulate(1, seeded(4), fidelity, torch.float64)
    x = problem.sample_prior(400_000, seeded(5), torch.float64)
    weight = problem.log_likelihood(y, problem.operator(fidelity)(x)).exp()
    evidence = math.exp(problem.exact_posterior(y, fidelity).log_evidence)
    standard_error = weight.std().item() / math.sqrt(len(weight))
    assert standard_error < 0.2 * evidence
    assert abs(weight.mean().item() - evidence) < 4 * standard_error


def test_posterior_draws_have_the_stated_moments(problem):
    _, y = problem.simulate(1, seeded(6), "high", torch.float64)
    posterior, n = problem.exact_posterior(y), 200_000
    draws = posterior.sample(n, seeded(7))
    error = (draws.mean(0) - posterior.mean) / (posterior.std / math.sqrt(n))
    assert error.abs().max() < 4
    scale = posterior.std[:, None] * posterior.std
    torch.testing.assert_close(
        torch.cov(draws.T) / scale, posterior.covariance / scale, rtol=0, atol=0.02
    )
    torch.testing.assert_close(posterior.std, posterior.covariance.diagonal().sqrt())


def test_posteriors_are_calibrated_over_the_prior(problem):
    """Simulation-based calibration: the density rank of the true model among posterior draws is
    uniform.
    """
    x, y = problem.simulate(300, seeded(8), "high", torch.float64)
    ranks = []
    for i in range(len(x)):
        posterior = problem.exact_posterior(y[i : i + 1])
        draws = posterior.log_density(posterior.sample(99, seeded(100 + i)))
        ranks.append((draws < posterior.log_density(x[i : i + 1])).double().mean())
    ranks = torch.stack(ranks).sort().values
    distance = (ranks - torch.linspace(0, 1, len(ranks), dtype=torch.float64)).abs().max()
    assert (
        distance < 1.63 / math.sqrt(len(ranks)) + 0.01
    )  # Kolmogorov-Smirnov at 1 %, and the grain of the ranks


@pytest.mark.parametrize("dtype", DTYPES)
def test_posteriors_follow_the_dtype_of_the_observation(problem, dtype):
    _, y = problem.simulate(1, seeded(), "high", dtype)
    posterior = problem.exact_posterior(y)
    draws = posterior.sample(4, seeded())
    tensors = [
        posterior.mean,
        posterior.std,
        posterior.covariance,
        draws,
        posterior.log_density(draws),
    ]
    assert {tensor.dtype for tensor in tensors} == {dtype}
    assert posterior.mean.shape == posterior.std.shape == problem.model_shape
    assert isinstance(posterior.log_evidence, float)
    exact = problem.exact_posterior(y.double())
    torch.testing.assert_close(posterior.mean.double(), exact.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        posterior.log_density(draws).double(),
        exact.log_density(draws.double()),
        rtol=1e-6,
        atol=1e-6,
    )


def test_posterior_score_vanishes_where_it_should(problem):
    """The mean of the score over the posterior is zero."""
    _, y = problem.simulate(1, seeded(9), "high", torch.float64)
    posterior = problem.exact_posterior(y)
    x = posterior.sample(100_000, seeded(10)).requires_grad_()
    (score,) = torch.autograd.grad(posterior.log_density(x).sum(), x)
    assert (score.mean(0) / (score.std(0) / math.sqrt(len(x)))).abs().max() < 4


@pytest.mark.parametrize("shape", [(2, 2), (1, 3), ()])
def test_a_posterior_needs_a_single_observation(shape):
    with unchecked(), pytest.raises(PflowError, match=r"single `y` of shape \(1, 2\)"):
        Rosenbrock().exact_posterior(torch.ones(shape))


def test_a_posterior_needs_a_finite_observation():
    with pytest.raises(PflowError, match="`y` must be finite"):
        Gaussian(side=1).exact_posterior(torch.tensor([[torch.nan]]))


def test_fidelity_is_low_or_high():
    with pytest.raises(PflowError, match="'medium'.* must be 'low' or 'high'"):
        Rosenbrock().simulate(1, fidelity="medium")


BAD_SETTINGS = [
    ("rosenbrock", "noise_std", -0.4, "a positive number"),
    ("gaussian", "noise_std", 0, "a positive number"),
    ("gaussian", "noise_std", math.inf, "a positive number"),
    ("gaussian", "noise_std", "0.4", "a positive number"),
    ("gaussian", "noise_std", True, "a positive number"),
    ("rosenbrock", "mu", math.nan, "a finite number"),
    ("rosenbrock", "operator_seed", -1, "a whole number from 0"),
    ("gaussian", "operator_seed", 1.5, "a whole number from 0"),
    ("gaussian", "side", 0, "a whole number from 1 to 64"),
    ("gaussian", "side", 2.0, "a whole number from 1 to 64"),
    ("gaussian", "side", 1000, "a whole number from 1 to 64"),
    ("gaussian", "length", 0.0, "a positive number"),
    ("seismic", "ratio", 0.5, "a finite number at least 1"),
    ("traveltime", "workers", 0, "a whole number from 1 to 1024"),
]


@pytest.mark.parametrize(("name", "setting", "value", "rule"), BAD_SETTINGS)
def test_impossible_settings_state_rule_value_and_way_out(name, setting, value, rule):
    with pytest.raises(PflowError) as error:
        build_problem(name, **{setting: value})
    message = str(error.value)
    assert message.startswith(f"`problem.{setting}` (={value!r}) must be {rule}")
    assert f"correct `problem.{setting}`" in message


def test_a_prior_that_is_singular_in_float64_says_so():
    with pytest.raises(PflowError, match=r"`problem.jitter` \(=1e-20\).*too small.*raise it"):
        MaternField((8, 8), length=20.0, nu=math.inf, jitter=1e-20)


def test_unknown_names_and_settings_name_the_nearest():
    with pytest.raises(
        PflowError,
        match=(
            "must be one of bimodal, darcy, gaussian, .*, rosenbrock.*: did you mean `rosenbrock`"
        ),
    ):
        build_problem("rosenbrok")
    with pytest.raises(
        PflowError,
        match="`problem.noise_sdt` is not a setting of 'gaussian'.*did you mean `noise_std`",
    ):
        build_problem("gaussian", noise_sdt=0.4)


def test_every_problem_builds_from_its_name():
    for name, problem in PROBLEMS.items():
        assert type(build_problem(name)) is problem


def test_operators_of_a_problem_must_agree():
    class Mismatched(Problem):
        name = "mismatched"

        def sample_prior(self, n, generator=None, dtype=torch.float32):
            return torch.zeros(n, 2, dtype=dtype)

        def log_prior(self, x):
            return x.sum(-1)

    with pytest.raises(PflowError, match="`model_shape` must be the same for both operators"):
        Mismatched(IdentityOperator((2,)), IdentityOperator((3,)), 0.4, ["a", "b", "c"])
    with pytest.raises(PflowError, match="one name for each of the 2 parameters, and has 1"):
        Mismatched(IdentityOperator((2,)), IdentityOperator((2,)), 0.4, ["a"])
    assert (
        Mismatched(IdentityOperator((2,)), IdentityOperator((2,)), 0.4, ["a", "b"]).exact_posterior(
            torch.zeros(1, 2)
        )
        is None
    )
