"""The Rosenbrock posterior against brute-force quadrature over the plane."""

from __future__ import annotations

import math

import pytest
import torch

from pflow.errors import PflowError
from pflow.operators import dense_matrix
from pflow.problems import Rosenbrock
from pflow.problems.rosenbrock import RosenbrockPosterior

Y = torch.tensor([[2.0, 4.0]], dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(x, mean, std):
    return -0.5 * ((x - mean) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))


class BruteForce:
    """The posterior on a fine grid of the plane, by nothing but the densities of the problem."""

    def __init__(self, matrix, noise_std, mu, y, low, high, points=1200):
        axes = [
            torch.linspace(a, b, points, dtype=torch.float64)
            for a, b in zip(low, high, strict=True)
        ]
        x1, x2 = torch.meshgrid(*axes, indexing="ij")
        log_joint = normal(x1, mu, 1.0) + normal(x2, x1**2, math.sqrt(0.5))
        for datum, row in zip(y, matrix, strict=True):
            log_joint += normal(datum, row[0] * x1 + row[1] * x2, noise_std)
        cell = math.prod((b - a) / (points - 1) for a, b in zip(low, high, strict=True))
        self.log_evidence = (log_joint.logsumexp((0, 1)) + math.log(cell)).item()
        weight = (log_joint - log_joint.logsumexp((0, 1))).exp()
        self.mean = torch.stack([(weight * x1).sum(), (weight * x2).sum()])
        d1, d2 = x1 - self.mean[0], x2 - self.mean[1]
        self.covariance = torch.stack(
            [(weight * a * b).sum() for a in (d1, d2) for b in (d1, d2)]
        ).reshape(2, 2)
        self.axes, self.marginals = axes, [weight.sum(1), weight.sum(0)]

    def distribution_function(self, axis, values):
        """P(x_axis <= value), linear between grid points (trapezoidal cumulative sums)."""
        grid, mass = self.axes[axis], self.marginals[axis]
        total = mass.cumsum(0) - mass / 2
        right = torch.searchsorted(grid, values).clamp(1, len(grid) - 1)
        return torch.lerp(
            total[right - 1],
            total[right],
            (values - grid[right - 1]) / (grid[right] - grid[right - 1]),
        )


CASES = {
    "low": {
        "matrix": [[1.0, 0.0], [0.0, 1.0]],
        "noise_std": 0.4,
        "mu": 0.0,
        "y": [2.0, 4.0],
        "low": (0, 0),
        "high": (4, 9),
    },
    "high": {
        "matrix": dense_matrix(Rosenbrock().high_fidelity),
        "noise_std": 0.4,
        "mu": 0.0,
        "y": [2.0, 4.0],
        "low": (0, 0),
        "high": (5, 16),
    },
    "banana": {
        "matrix": [[0.2, 0.1], [0.3, 0.1]],
        "noise_std": 0.4,
        "mu": 0.5,
        "y": [0.2, 0.4],
        "low": (-8, -7),
        "high": (8, 30),
    },
    "two modes": {
        "matrix": [[0.0, 0.0], [0.0, 1.0]],
        "noise_std": 0.2,
        "mu": 0.4,
        "y": [0.1, 12.0],
        "low": (-6, 9),
        "high": (6, 15),
    },
    "x2 unseen": {
        "matrix": [[1.0, 0.0], [0.5, 0.0]],
        "noise_std": 0.4,
        "mu": -1.0,
        "y": [1.0, 1.0],
        "low": (-3, -6),
        "high": (4, 16),
    },
    "nothing seen": {
        "matrix": [[0.0, 0.0], [0.0, 0.0]],
        "noise_std": 1.0,
        "mu": 0.0,
        "y": [1.0, 1.0],
        "low": (-7, -6),
        "high": (7, 50),
    },
    "three data": {
        "matrix": [[1, 0.5], [0, 1], [-1, 0.2]],
        "noise_std": 0.5,
        "mu": 0.0,
        "y": [1, 1.0, -1],
        "low": (-4, -5),
        "high": (4, 6),
    },
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    settings = dict(CASES[request.param])
    box = settings.pop("low"), settings.pop("high")
    settings |= {
        name: torch.as_tensor(settings[name], dtype=torch.float64) for name in ("matrix", "y")
    }
    return RosenbrockPosterior(**settings), BruteForce(**settings, low=box[0], high=box[1])


def test_evidence_and_moments_against_two_dimensional_quadrature(case):
    posterior, brute = case
    assert posterior.log_evidence == pytest.approx(brute.log_evidence, abs=1e-9)
    torch.testing.assert_close(posterior.mean, brute.mean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(posterior.covariance, brute.covariance, rtol=1e-8, atol=1e-8)


def test_draws_follow_both_marginal_distributions(case):
    """Kolmogorov-Smirnov: the distribution function at the draws is uniform (1.95 is the 0.1 %
    point).
    """
    posterior, brute = case
    n = 20_000
    draws = posterior.sample(n, seeded())
    uniform = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    for axis in (0, 1):
        rank = brute.distribution_function(axis, draws[:, axis].contiguous()).sort().values
        assert (rank - uniform).abs().max() * math.sqrt(n) < 1.95


def test_two_separate_modes_are_two_pieces_of_the_quadrature():
    posterior = RosenbrockPosterior(
        torch.tensor([[0.0, 0.0], [0.0, 1.0]]), 0.2, 0.0, torch.tensor([0.1, 12.0])
    )
    right = (posterior.sample(10_000, seeded())[:, 0] > 0).double().mean()
    assert len(posterior._nodes) == 2
    assert right.item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("noise_std", [1e-4, 1e-2, 100.0])
def test_any_noise_level(noise_std):
    problem = Rosenbrock(noise_std=noise_std)
    posterior = problem.exact_posterior(problem.high_fidelity(Y))
    if (
        noise_std < 1
    ):  # The posterior is the likelihood, and the evidence the prior density over |det A|.
        inverse = torch.linalg.inv(dense_matrix(problem.high_fidelity))
        likelihood = noise_std * inverse.square().sum(1).sqrt()
        torch.testing.assert_close(
            posterior.std / likelihood,
            torch.ones(2, dtype=torch.float64),
            rtol=0,
            atol=20 * noise_std,
        )
        evidence = problem.log_prior(Y).item() + torch.linalg.slogdet(inverse).logabsdet.item()
        assert posterior.log_evidence == pytest.approx(evidence, abs=20 * noise_std)
    else:  # The posterior is the prior: E x2 = E x1^2 = 1, Var x2 = Var x1^2 + 1/2.
        torch.testing.assert_close(
            posterior.std,
            torch.tensor([1.0, math.sqrt(2.5)], dtype=torch.float64),
            rtol=0,
            atol=1e-2,
        )


def test_noise_below_the_resolution_of_float64_is_refused():
    with pytest.raises(
        PflowError, match=r"`problem.noise_std` \(=1e-07\) must be at least 4.0e-05.*raise it"
    ):
        Rosenbrock(noise_std=1e-7).exact_posterior(Y)


def test_prior_is_the_one_of_the_paper():
    x = torch.tensor([[0.5, 2.0], [1.0, -1.0]], dtype=torch.float64)
    problem = Rosenbrock(mu=0.25)
    difference = problem.log_prior(x) - (
        -((x[:, 0] - 0.25) ** 2) / 2 - (x[:, 1] - x[:, 0] ** 2) ** 2
    )
    torch.testing.assert_close(
        difference, torch.full((2,), -math.log(math.pi * math.sqrt(2)), dtype=torch.float64)
    )


def test_prior_draws_follow_the_prior():
    x1, x2 = Rosenbrock(mu=0.25).sample_prior(200_000, seeded(), torch.float64).T
    residual = x2 - x1**2
    for values, mean, variance in ((x1, 0.25, 1.0), (residual, 0.0, 0.5)):
        assert values.mean().item() == pytest.approx(mean, abs=0.01)
        assert values.var().item() == pytest.approx(variance, abs=0.01)
    assert torch.corrcoef(torch.stack([x1, residual]))[0, 1].abs() < 0.01


def test_operators_are_the_identity_and_a_random_matrix_of_unit_norm():
    problem = Rosenbrock(operator_seed=7)
    torch.testing.assert_close(problem.low_fidelity(Y), Y)
    matrix = dense_matrix(problem.high_fidelity)
    assert torch.linalg.svdvals(matrix)[0].item() == pytest.approx(1, abs=1e-12)
    g = torch.randn(2, 2, generator=seeded(7), dtype=torch.float64) + 3 * torch.eye(
        2, dtype=torch.float64
    )
    torch.testing.assert_close(matrix / matrix[0, 0], g / g[0, 0])


def test_tails_of_the_density_stay_finite():
    posterior = Rosenbrock().exact_posterior(Y.float())
    far = torch.tensor([[50.0, -1e3], [-1e3, 1e6]])
    assert posterior.log_density(far).isfinite().all() and (posterior.log_density(far) < -1e4).all()
