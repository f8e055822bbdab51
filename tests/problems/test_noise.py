"""Noise against closed forms of torch and SciPy: one contract for all models, then what each
adds.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from pflow.errors import PflowError
from pflow.problems import Gaussian
from pflow.problems.noise import (
    ComplexNoise,
    CovarianceNoise,
    IndependentNoise,
    LowRankNoise,
    MaskedNoise,
    StudentTNoise,
    real_covariance,
)
from pflow.problems.prior_problem import PriorProblem

SHAPE = (2, 3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


FACTOR = randn(6, 2, seed=1)
VARIANCE = randn(2, 3, seed=2).exp()
COVARIANCE = FACTOR @ FACTOR.T + torch.diag(VARIANCE.flatten())
SCALE = randn(2, 3, seed=3).exp()
MASK = torch.tensor([[True, False, True], [True, True, False]])
KEPT = MASK.flatten().nonzero()[:, 0]

NOISES = {
    "independent": IndependentNoise(SHAPE, 0.4),
    "per datum": IndependentNoise(SHAPE, SCALE),
    "covariance": CovarianceNoise(SHAPE, COVARIANCE),
    "low rank": LowRankNoise(SHAPE, FACTOR, VARIANCE),
    "student": StudentTNoise(SHAPE, 3.5, SCALE),
    "complex": ComplexNoise((3, 2), torch.tensor([0.5, 1.0, 2.0])),
    "masked": MaskedNoise(IndependentNoise(SHAPE, SCALE), MASK),
    "masked covariance": MaskedNoise(CovarianceNoise(SHAPE, COVARIANCE), MASK),
    "masked low rank": MaskedNoise(LowRankNoise(SHAPE, FACTOR, VARIANCE), MASK),
    "masked student": MaskedNoise(StudentTNoise(SHAPE, 3.5, SCALE), MASK),
    "masked twice": MaskedNoise(
        MaskedNoise(CovarianceNoise(SHAPE, COVARIANCE), MASK), MASK.roll(1, 0)
    ),
}


@pytest.fixture(params=NOISES)
def noise(request):
    return NOISES[request.param]


def normal(covariance, r):
    return torch.distributions.MultivariateNormal(
        torch.zeros(len(covariance), dtype=torch.float64), covariance
    ).log_prob(r)


EXPECTED = {
    "independent": lambda r: torch.distributions.Normal(0.0, 0.4).log_prob(r).sum((1, 2)),
    "per datum": lambda r: torch.distributions.Normal(0.0, SCALE).log_prob(r).sum((1, 2)),
    "covariance": lambda r: normal(COVARIANCE, r.flatten(1)),
    "low rank": (
        lambda r: torch.distributions.LowRankMultivariateNormal(
            torch.zeros(6).double(), FACTOR, VARIANCE.flatten()
        ).log_prob(r.flatten(1))
    ),
    "student": lambda r: torch.distributions.StudentT(3.5, 0.0, SCALE).log_prob(r).sum((1, 2)),
    "masked": lambda r: (
        torch.distributions.Normal(0.0, SCALE)
        .log_prob(r)
        .masked_select(MASK)
        .reshape(len(r), -1)
        .sum(1)
    ),
    "masked covariance": lambda r: normal(COVARIANCE[KEPT][:, KEPT], r.flatten(1)[:, KEPT]),
    "masked low rank": lambda r: normal(COVARIANCE[KEPT][:, KEPT], r.flatten(1)[:, KEPT]),
    "masked student": lambda r: (
        torch.distributions.StudentT(3.5, 0.0, SCALE)
        .log_prob(r)
        .masked_select(MASK)
        .reshape(len(r), -1)
        .sum(1)
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_log_likelihood_against_the_closed_form(name):
    r = randn(5, *SHAPE, seed=4)
    torch.testing.assert_close(NOISES[name].log_likelihood(r), EXPECTED[name](r))
    torch.testing.assert_close(
        NOISES[name].log_likelihood(r.float()).double(), EXPECTED[name](r), rtol=1e-5, atol=1e-5
    )


DEPENDENT = {"covariance", "low rank", "masked covariance", "masked low rank", "masked twice"}


@pytest.mark.parametrize("name", NOISES)
def test_independent_data_have_a_log_likelihood_each(name):
    noise, r = NOISES[name], randn(5, *NOISES[name].shape, seed=4)
    each = noise.log_likelihood_each(r)
    assert (each is None) == (name in DEPENDENT)
    if each is not None:
        assert each.shape == r.shape
        torch.testing.assert_close(each.flatten(1).sum(1), noise.log_likelihood(r))
        changed = r.clone()
        changed[:, 0, 0] += 1.0
        moved = noise.log_likelihood_each(changed) != each
        assert moved[:, 0, 0].all() and moved.sum() == len(r)  # each datum stands for itself
    if name.startswith("masked") and each is not None:
        assert (each[:, ~MASK] == 0).all() and (each[:, MASK] != 0).all()


def test_gradients_by_finite_differences(noise):
    r = randn(3, *noise.shape, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(noise.log_likelihood, r)
    assert torch.autograd.gradcheck(noise.whiten, r)


def test_whitened_draws_are_standard_normal_and_chi_square_counts_the_data(noise):
    r = noise.sample(40_000, seeded(6), torch.float64)
    w = noise.whiten(r).flatten(1)
    there = w.abs().sum(0) > 0
    assert int(there.sum()) == noise.size and (r.flatten(1)[:, ~there] == 0).all()
    torch.testing.assert_close(
        torch.cov(w[:, there].T), torch.eye(noise.size, dtype=torch.float64), rtol=0, atol=0.03
    )
    assert min(stats.kstest(column.numpy(), "norm").pvalue for column in w[:, there].T) > 1e-3
    chi_square = noise.chi_square(r) * noise.size
    assert stats.kstest(chi_square.numpy(), stats.chi2(noise.size).cdf).pvalue > 1e-3


def test_likelihood_follows_from_whitening(noise):
    """p(r) = N(w(r)) |det dw/dr| over the data that count."""
    r = randn(1, *noise.shape, seed=7)
    jacobian = torch.autograd.functional.jacobian(
        lambda one: noise.whiten(one).flatten(), r
    ).flatten(1)
    there = jacobian.abs().sum(0) > 0
    w = noise.whiten(r).flatten()[there]
    expected = (
        -0.5 * w.square().sum()
        - 0.5 * noise.size * math.log(2 * math.pi)
        + torch.linalg.slogdet(jacobian[there][:, there]).logabsdet
    )
    torch.testing.assert_close(noise.log_likelihood(r)[0], expected)


def test_draws_have_the_dtype_asked_for_and_are_the_same_up_to_rounding(noise):
    single, double = (
        noise.sample(20, seeded(8), dtype) for dtype in (torch.float32, torch.float64)
    )
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64) and single.shape == (
        20,
        *noise.shape,
    )
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)
    prediction = randn(20, *noise.shape).float()
    assert (
        noise.add_to(prediction, seeded(8), drawn_in=torch.float32).dtype
        == noise.whiten(prediction).dtype
        == torch.float32
    )


def test_the_covariance_of_draws_is_the_one_given():
    for name in ("covariance", "low rank"):
        r = NOISES[name].sample(200_000, seeded(9), torch.float64).flatten(1)
        torch.testing.assert_close(
            torch.cov(r.T), COVARIANCE, rtol=0, atol=0.03 * float(COVARIANCE.max())
        )


def test_complex_noise_is_circular():
    r = torch.view_as_complex(NOISES["complex"].sample(200_000, seeded(10), torch.float64))
    torch.testing.assert_close(
        r.abs().square().mean(0),
        torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64),
        rtol=0.02,
        atol=0,
    )
    assert r.square().mean(0).abs().max() < 0.03 * 4
    w = NOISES["complex"].whiten(torch.view_as_real(r))
    assert NOISES["complex"].size == 6 and abs(w.square().mean().item() - 1) < 0.01


def test_complex_covariance_as_real_parts():
    root = torch.complex(randn(3, 3, seed=11), randn(3, 3, seed=12))
    hermitian = root @ root.conj().T
    noise = CovarianceNoise((3, 2), real_covariance(hermitian))
    r = torch.view_as_complex(noise.sample(200_000, seeded(13), torch.float64))
    outer = (r[:, :, None] * r[:, None].conj()).mean(0)
    torch.testing.assert_close(outer, hermitian, rtol=0, atol=0.02 * float(hermitian.abs().max()))
    assert (r[:, :, None] * r[:, None]).mean(0).abs().max() < 0.02 * float(hermitian.abs().max())
    # The density of circular complex noise is exp(-r^H C^-1 r) / (pi^m det C).
    one = r[:4]
    quadratic = torch.einsum("bi,ij,bj->b", one.conj(), torch.linalg.inv(hermitian), one).real
    expected = -quadratic - 3 * math.log(math.pi) - torch.linalg.slogdet(hermitian).logabsdet
    torch.testing.assert_close(noise.log_likelihood(torch.view_as_real(one)), expected)


def test_missing_data_say_nothing_even_where_y_is_nan():
    noise = NOISES["masked covariance"]
    prediction = randn(4, *SHAPE, seed=14).requires_grad_()
    y = torch.where(MASK, randn(1, *SHAPE, seed=15), torch.nan)
    log_likelihood = noise.log_likelihood(y - prediction)
    (gradient,) = torch.autograd.grad(log_likelihood.sum(), prediction)
    assert (
        log_likelihood.isfinite().all()
        and (gradient[:, ~MASK] == 0).all()
        and (gradient[:, MASK] != 0).all()
    )
    assert noise.chi_square(y - prediction).isfinite().all() and noise.size == 4
    assert (
        torch.equal(noise.recorded(y), y.nan_to_num(0.0)) and NOISES["independent"].recorded(y) is y
    )
    recorded = noise.add_to(prediction.detach(), seeded(16))
    assert (recorded[:, ~MASK] == 0).all() and (recorded[:, MASK] != prediction[:, MASK]).all()


def test_whitening_of_outliers_stays_finite():
    noise = StudentTNoise((1,), 4.0, 1.0)
    w = noise.whiten(torch.tensor([[0.0], [1.0], [-1.0], [1e6]], dtype=torch.float64))[:, 0]
    assert w[0] == 0 and w[1] == -w[2] and 5 < w[3] < 15


def test_a_problem_takes_any_noise_through_simulation_and_likelihood():
    class Seen(Gaussian):
        def __init__(self):
            gaussian, mask = Gaussian(side=2), torch.tensor([True, True, False, True])
            noise = MaskedNoise(IndependentNoise((4,), 0.3), mask)
            PriorProblem.__init__(
                self, gaussian.prior, gaussian.low_fidelity, gaussian.high_fidelity, noise=noise
            )

    problem = Seen()
    x, y = problem.simulate(3, seeded(), "high", torch.float64)
    assert problem.noise_std is None and (y[:, 2] == 0).all()
    expected = (
        torch.distributions.Normal(problem.high_fidelity(x), 0.3).log_prob(y)[:, [0, 1, 3]].sum(1)
    )
    torch.testing.assert_close(problem.log_likelihood(y, problem.high_fidelity(x)), expected)


def test_random_numbers_are_those_of_independent_noise_as_it_always_was():
    """Published results depend on these: pairs draw in float64, observations and predictions in
    float32.
    """
    prediction, noise = randn(50, 7).float(), IndependentNoise((7,), 0.4)
    pairs = prediction + 0.4 * torch.randn(50, 7, generator=seeded(1), dtype=torch.float64).float()
    assert torch.equal(noise.add_to(prediction, seeded(1)), pairs)
    observed = prediction + 0.4 * torch.randn(50, 7, generator=seeded(1))
    assert torch.equal(noise.add_to(prediction, seeded(1), drawn_in=torch.float32), observed)
    residual = randn(50, 7, seed=2).float()
    assert torch.equal(noise.chi_square(residual), (residual / 0.4).square().mean(1))
    expected = -0.5 * (residual / 0.4).square().sum(1) - 7 * (
        math.log(0.4) + 0.5 * math.log(2 * math.pi)
    )
    torch.testing.assert_close(noise.log_likelihood(residual), expected, rtol=1e-7, atol=0)


MISTAKES = [
    (
        lambda: IndependentNoise(SHAPE, torch.tensor([1.0, 0.0, 1.0])),
        "`noise_std` of the noise must be positive and finite, and its smallest value is 0.0",
    ),
    (
        lambda: IndependentNoise(SHAPE, torch.ones(4)),
        r"must fit data of shape \(2, 3\), and has the shape \(4,\): give one number",
    ),
    (
        lambda: IndependentNoise(SHAPE, -1.0),
        r"`problem.noise_std` \(=-1.0\) must be a positive number",
    ),
    (lambda: CovarianceNoise(SHAPE, torch.eye(5)), r"must have the shape \(6, 6\).*has \(5, 5\)"),
    (
        lambda: CovarianceNoise(SHAPE, -torch.eye(6)),
        "must be positive definite.*add a small multiple",
    ),
    (lambda: CovarianceNoise(SHAPE, torch.eye(6).roll(1, 0)), "must be symmetric"),
    (
        lambda: LowRankNoise(SHAPE, torch.ones(5, 1), 1.0),
        r"with the shape \(6, rank\), and has \(5, 1\)",
    ),
    (
        lambda: StudentTNoise(SHAPE, 0.0, 1.0),
        r"`problem.degrees` \(=0.0\) must be a positive number",
    ),
    (lambda: ComplexNoise((3,), 1.0), "last axis .* of size 2.*view_as_real"),
    (
        lambda: MaskedNoise(NOISES["independent"], torch.zeros(SHAPE, dtype=torch.bool)),
        "at least one datum",
    ),
    (
        lambda: MaskedNoise(NOISES["independent"], torch.ones(6, dtype=torch.bool)),
        r"in the shape \(2, 3\)",
    ),
]


@pytest.mark.parametrize(("make", "message"), MISTAKES)
def test_impossible_noise_is_refused_in_plain_words(make, message):
    with pytest.raises(PflowError, match=message):
        make()


def test_a_problem_needs_one_noise_of_its_data():
    problem = Gaussian(side=2)
    parts = problem.prior, problem.low_fidelity, problem.high_fidelity
    for std, noise in ((None, None), (0.4, IndependentNoise((4,), 0.4))):
        with pytest.raises(PflowError, match="either `noise_std`, a positive number, or `noise`"):
            PriorProblem(*parts, noise_std=std, noise=noise)
    with pytest.raises(
        PflowError, match=r"`noise.shape` \(=\(5,\)\) must be the shape of the data \(4,\)"
    ):
        PriorProblem(*parts, noise=IndependentNoise((5,), 0.4))
