"""Priors against closed forms, their draws against their densities, and the transforms of bounded
ones by finite differences.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import distributions

from pflow.errors import PflowError
from pflow.flows import build_flow
from pflow.inference.target import Target
from pflow.operators import IdentityOperator, MatrixOperator, Operator, check_operator
from pflow.problems.prior_problem import PriorProblem
from pflow.problems.priors import CallablePrior, DensityPrior, MaternField, Prior, Unconstrained
from pflow.problems.stationary import StationaryGaussian


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


BOUNDED = {
    "depth": distributions.Uniform(double(2.0, 1.0), double(5.0, 3.0)),
    "porosity": distributions.Beta(double(2.0)[0], double(5.0)[0]),
    "slowness": distributions.LogNormal(double(0.0)[0], double(0.5)[0]),
    "shares": distributions.Dirichlet(double(2.0, 3.0, 4.0)),
    "offset": distributions.Normal(double(1.0)[0], double(2.0)[0]),
}


class Mixture:
    """log_prob and sample, as a trained flow has them."""

    def log_prob(self, x):
        return (
            torch.logsumexp(torch.stack([-0.5 * (x - c).square().sum(1) for c in (-2.0, 2.0)]), 0)
            - math.log(2)
            - math.log(2 * math.pi)
        )

    def sample(self, n, generator=None):
        side = torch.where(
            torch.rand(n, 1, generator=generator, dtype=torch.float64) < 0.5, -2.0, 2.0
        )
        return side + torch.randn(n, 2, generator=generator, dtype=torch.float64)


def spectrum(height, width):
    """Of a smooth image, symmetric in frequency."""
    frequencies = (torch.fft.fftfreq(n, dtype=torch.float64) for n in (height, width))
    rows, columns = torch.meshgrid(*frequencies, indexing="ij")
    return (0.2 + torch.exp(-20 * rows.square() - 10 * columns.square()))[None]


PRIORS = {
    "matern 1-D": MaternField((7,), length=2.0, nu=0.5, std=2.0),
    "matern image": MaternField((3, 4), length=1.5, nu=2.5, spacing=(1.0, 0.5), shape=(1, 3, 4)),
    "matern any": MaternField((5,), length=2.0, nu=1.2),
    "bounded": Unconstrained(BOUNDED),
    "bounded tensor": Unconstrained(
        distributions.Uniform(torch.zeros(2, 2).double(), torch.ones(2, 2).double())
    ),
    "object": DensityPrior(Mixture(), (2,)),
    "torch": DensityPrior(
        distributions.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double()), (2,)
    ),
    "torch, independent": DensityPrior(
        distributions.Laplace(torch.zeros(2, 2).double(), 1.0), (2, 2)
    ),
    "callables": CallablePrior((2,), Mixture().log_prob, Mixture().sample),
    "stationary": StationaryGaussian(spectrum(3, 4)),
}


@pytest.fixture(params=PRIORS)
def prior(request):
    return PRIORS[request.param]


def test_every_prior_keeps_the_contract(prior):
    assert isinstance(prior, Prior)
    state = torch.get_rng_state()
    x, again = prior.sample(5, seeded(1)), prior.sample(5, seeded(1))
    assert (
        torch.equal(x, again)
        and not torch.equal(x, prior.sample(5, seeded(2)))
        and torch.equal(state, torch.get_rng_state())
    )
    assert x.shape == (5, *prior.shape) and x.isfinite().all()
    x = x.double().requires_grad_()
    assert torch.autograd.gradcheck(prior.log_density, x)
    assert prior.log_density(x.float()).dtype == torch.float32
    torch.testing.assert_close(
        prior.log_density(x.float()).double(), prior.log_density(x), rtol=1e-4, atol=1e-3
    )


def test_draws_follow_the_density(prior):
    """E[score] = 0 and E[x score^T] = -I under the density itself, whatever it is (Stein's
    identity).
    """
    n = 40_000
    x = prior.sample(n, seeded(3)).double().requires_grad_()
    (score,) = torch.autograd.grad(prior.log_density(x).sum(), x)
    flat, score = x.detach().flatten(1), score.flatten(1)
    products = flat[:, :, None] * score[:, None]
    error = products.mean(0) + torch.eye(flat.shape[1], dtype=torch.float64)
    assert (score.mean(0).abs() < 5 * score.std(0) / math.sqrt(n)).all()
    assert (error.abs() < 5 * products.std(0) / math.sqrt(n)).all()


@pytest.mark.parametrize(
    ("nu", "r"), [(nu, r) for nu in (0.5, 1.5, 2.5, 1.2, 3.0, 10.0) for r in (1, 3)]
)
def test_matern_covariance(nu, r):
    field = MaternField((4,), length=1.7, nu=nu, std=1.5, jitter=1e-9)
    u = math.sqrt(2 * nu) * r / 1.7
    expected = 1.5**2 * 2 ** (1 - nu) / special.gamma(nu) * u**nu * special.kv(nu, u)
    assert (field.root @ field.root.T)[0, r].item() == pytest.approx(expected, rel=1e-7)


def test_matern_becomes_the_squared_exponential():
    smooth, limit = (
        MaternField((4, 4), length=1.5, nu=nu, jitter=1e-3).root for nu in (100.0, math.inf)
    )
    torch.testing.assert_close(smooth, limit, rtol=0, atol=0.01)
    anisotropic = MaternField((2, 2), length=1.0, nu=math.inf, spacing=(1.0, 2.0), jitter=1e-9)
    np.testing.assert_allclose(
        (anisotropic.root @ anisotropic.root.T)[0, 1:],
        [math.exp(-2), math.exp(-0.5), math.exp(-2.5)],
        rtol=1e-6,
    )


def test_matern_density_and_draws_of_images():
    field = PRIORS["matern image"]
    covariance = field.root @ field.root.T
    x = field.sample(100_000, seeded(4))
    expected = distributions.MultivariateNormal(torch.zeros(12).double(), covariance).log_prob(
        x[:9].flatten(1)
    )
    torch.testing.assert_close(field.log_density(x[:9]), expected)
    torch.testing.assert_close(torch.cov(x.flatten(1).T), covariance, rtol=0, atol=0.03)


def test_bounded_parameters_keep_their_distributions():
    prior = PRIORS["bounded"]
    assert prior.shape == (7,) and prior.physical_shape == (
        8,
    )  # three shares that add up to one are two numbers
    assert prior.parameter_names == (
        "depth[0]",
        "depth[1]",
        "porosity",
        "slowness",
        "shares[0]",
        "shares[1]",
        "offset",
    )
    x = prior.sample(20_000, seeded(5))
    p = prior.physical(x)
    torch.testing.assert_close(prior.unconstrained(p), x, rtol=1e-6, atol=1e-6)
    shares = [stats.beta(a, 9 - a) for a in (2, 3, 4)]
    columns = [
        stats.uniform(2, 3),
        stats.uniform(1, 2),
        stats.beta(2, 5),
        stats.lognorm(0.5),
        *shares,
        stats.norm(1, 2),
    ]
    assert (
        min(stats.kstest(p[:, i].numpy(), known.cdf).pvalue for i, known in enumerate(columns))
        > 1e-3
    )


def test_log_determinants_of_bounded_parameters():
    """log p(x) = log pi(T(x)) + log |det dT/dx|, the Jacobian by autograd; of proportions the last
    one follows from the others.
    """
    prior = PRIORS["bounded"]
    x = prior.sample(4, seeded(6))
    free = [0, 1, 2, 3, 4, 5, 7]
    for one in x:
        jacobian = torch.autograd.functional.jacobian(
            lambda point: prior.physical(point[None])[0], one
        )[free]
        p = prior.physical(one[None])[0]
        pieces = {
            "depth": p[:2],
            "porosity": p[2],
            "slowness": p[3],
            "shares": p[4:7],
            "offset": p[7],
        }
        log_pi = sum(BOUNDED[name].log_prob(value).sum() for name, value in pieces.items())
        torch.testing.assert_close(
            prior.log_density(one[None])[0], log_pi + torch.linalg.slogdet(jacobian).logabsdet
        )


def test_densities_of_bounded_parameters_integrate_to_one():
    prior = Unconstrained({"porosity": BOUNDED["porosity"]})
    x = torch.linspace(-30, 30, 20_001, dtype=torch.float64)
    assert torch.trapezoid(prior.log_density(x[:, None]).exp(), x).item() == pytest.approx(
        1, abs=1e-8
    )
    far = torch.tensor([[80.0], [-80.0], [math.nan], [math.inf]], dtype=torch.float64)
    assert (prior.log_density(far)[:2] < -20).all() and prior.log_density(far)[2:].isnan().all()


class Reciprocal(Operator):
    """F(p) = 1 / p, defined for positive p alone."""

    def __init__(self):
        super().__init__((2,), (2,))

    def forward(self, x):
        assert (x > 0).all(), "called outside its domain"
        return 1 / x

    def valid(self, x):
        return (x > 0).all(1)


def test_operators_see_physical_parameters_and_draws_map_back():
    prior = Unconstrained(
        {
            "first": distributions.Uniform(double(1.0)[0], double(2.0)[0]),
            "second": distributions.Gamma(double(3.0)[0], double(1.0)[0]),
        }
    )
    problem = PriorProblem(prior, IdentityOperator((2,)), Reciprocal(), noise_std=0.1)
    x, y = problem.simulate(4, seeded(7), "high", torch.float64)
    p = problem.physical(x)
    assert problem.parameter_names == ("first", "second") and ((p[:, 0] > 1) & (p[:, 0] < 2)).all()
    torch.testing.assert_close(problem.high_fidelity(x), 1 / p)
    check_operator(
        problem.high_fidelity, problem.sample_prior(6, seeded(8), torch.float64), seeded(9)
    )
    evaluation = Target(problem, y[:1]).evaluate(x)

    def density(at):
        return problem.log_likelihood(y[:1], 1 / prior.physical(at)) + prior.log_density(at)

    (expected,) = torch.autograd.grad(density(x.requires_grad_()).sum(), x)
    torch.testing.assert_close(evaluation.score, expected)


def test_a_target_keeps_points_outside_the_domain_out_without_calling_the_operator():
    normal = distributions.Normal(torch.ones(2).double(), 1.0)
    problem = PriorProblem(
        DensityPrior(normal, (2,)), IdentityOperator((2,)), Reciprocal(), noise_std=0.5
    )
    target = Target(problem, double(1.0, 1.0)[None])
    x = torch.tensor([[1.0, 2.0], [-1.0, 2.0], [0.5, 0.5]], dtype=torch.float64)
    found = target.evaluate(x)
    assert found.valid.tolist() == [True, False, True] and target.ledger.invalid == 1
    torch.testing.assert_close(
        found.score[0], double(0.0, -1.0) + 4 * double(1 - 1.0, 0.5 - 1) * double(1.0, 0.25)
    )
    assert target.evaluate(-x[:1]).valid.tolist() == [False]
    prediction, log_density = target.predict(x)
    assert prediction[1].isnan().all() and log_density.isfinite().tolist() == [True, False, True]


def test_flows_of_images_see_data_as_images():
    field = MaternField((4, 4), length=1.5, shape=(1, 4, 4))

    class Rows(Operator):
        """Sums along rows: data that are no image."""

        linear = True

        def forward(self, x):
            return x.sum((1, 3))

    problem = PriorProblem(field, Rows((1, 4, 4), (4,)), Rows((1, 4, 4), (4,)), noise_std=0.1)
    _, y = problem.simulate(3, seeded(10), dtype=torch.float64)
    assert problem.summary_shape == (1, 4, 4)
    torch.testing.assert_close(problem.summary(y), y[:, None, :, None].expand(3, 1, 4, 4))
    same = PriorProblem(
        field, IdentityOperator((1, 4, 4)), IdentityOperator((1, 4, 4)), noise_std=0.1
    )
    _, y = same.simulate(3, seeded(11))
    assert same.summary(y) is y and same.summary_shape == (
        1,
        4,
        4,
    )  # already an image on the model's grid
    vector = PriorProblem(
        MaternField((6,), 1.0),
        MatrixOperator(torch.ones(2, 6)),
        MatrixOperator(torch.ones(2, 6)),
        noise_std=0.1,
    )
    assert vector.summary_shape == (2,) and vector.summary(y) is y


def test_a_flow_is_a_prior():
    """The loader of docs/operators.md: a flow of a datum that says nothing."""
    torch.manual_seed(0)
    flow = build_flow("coupling", (2,), (1,), depth=2, hidden=8)
    nothing = torch.zeros(1, 1)

    class Unconditional:
        log_prob = staticmethod(lambda x: flow.log_prob(x, nothing))
        sample = staticmethod(lambda n, generator=None: flow.sample(nothing, n, generator))

    prior = DensityPrior(Unconditional(), (2,))
    x = prior.sample(5, seeded()).requires_grad_()
    torch.testing.assert_close(prior.log_density(x), flow.log_prob(x, nothing))
    assert torch.autograd.grad(prior.log_density(x).sum(), x)[0].isfinite().all()


MISTAKES = [
    (
        lambda: Unconstrained({"faults": distributions.Poisson(3.0)}),
        "prior of `faults` must be continuous.*Poisson",
    ),
    (lambda: PRIORS["bounded"].unconstrained(torch.full((1, 8), 9.0)), "`depth` must be within"),
    (lambda: DensityPrior(object(), (2,)), "object has no `log_prob`: add it"),
    (
        lambda: DensityPrior(Mixture(), (3,)),
        r"must return 1 models as a tensor of shape \(1, 3\), and returned \(1, 2\)",
    ),
    (
        lambda: CallablePrior((2,), lambda x: x, None).log_density(torch.ones(3, 2)),
        r"one log density for each of the 3 models.*returned \(3, 2\): sum",
    ),
    (
        lambda: CallablePrior((2,), None, lambda n, g: np.zeros((n, 2))).sample(3),
        "returned ndarray",
    ),
    (lambda: MaternField((65, 65), 1.0), "at most 4096 points.*coarser"),
    (lambda: MaternField((3,), 1.0, nu=-1.0), r"`problem.nu` \(=-1.0\) must be a positive number"),
    (lambda: MaternField((3,), 1.0, nu=400.0), "`nu` .* is too large.*math.inf"),
    (lambda: MaternField((3, 3), 1.0, shape=(8,)), "must hold the 9 points"),
    (lambda: MaternField((3, 3), 1.0, spacing=(1.0,)), "one for each of the 2 axes"),
    (
        lambda: MaternField((20, 20), 30.0, nu=math.inf, jitter=1e-20),
        "`problem.jitter` .* is too small",
    ),
    (
        lambda: PriorProblem(
            MaternField((3,), 1.0), MatrixOperator(torch.eye(2)), MatrixOperator(torch.eye(2)), 0.1
        ),
        r"models of shape \(3,\).*is \(2,\)",
    ),
]


@pytest.mark.parametrize(("make", "message"), MISTAKES)
def test_impossible_priors_are_refused_in_plain_words(make, message):
    with pytest.raises(PflowError, match=message):
        make()
