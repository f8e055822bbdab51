"""The affine Gaussian process: exact where it can be, honest where it cannot."""

from __future__ import annotations

import pytest
import torch

from pflow.objectives.surrogate.affine import AffineDelta, Hyperparameters
from pflow.objectives.surrogate.spans import EVEN

PARAMETERS, DATA = 6, 5
EXACT = Hyperparameters(10.0, 1e-6, 1e-6)


def evaluations(matrix, count, seed=0):
    """Points, values, residual directions and adjoint products of delta(v) = 1 + A v."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(count, matrix.shape[1], generator=generator, dtype=torch.float64)
    r = torch.randn(count, matrix.shape[0], generator=generator, dtype=torch.float64)
    r = r / r.norm(dim=1, keepdim=True)
    return v, 1 + v @ matrix.T, r, r @ matrix


def random_matrix(seed=3, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(DATA, PARAMETERS, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("count", "use_products"), [(PARAMETERS + 1, False), (DATA, True)])
def test_enough_evaluations_determine_the_matrix(count, use_products):
    """D + 1 values, or m products: either alone is enough."""
    matrix = random_matrix()
    v, values, directions, products = evaluations(matrix, count)
    fit = AffineDelta(
        v,
        values,
        directions,
        products,
        torch.ones(count, dtype=torch.float64),
        EXACT,
        use_products=use_products,
    )
    torch.testing.assert_close(fit.matrix(), matrix, atol=1e-4, rtol=0)
    fresh = torch.randn(3, PARAMETERS, dtype=torch.float64)
    torch.testing.assert_close(fit.mean(fresh), 1 + fresh @ matrix.T, atol=1e-3, rtol=0)


def test_half_of_each_is_enough_together():
    matrix = random_matrix()
    v, values, directions, products = evaluations(matrix, 4)
    ones = torch.ones(4, dtype=torch.float64)
    both = AffineDelta(v, values, directions, products, ones, EXACT)
    values_alone = AffineDelta(v, values, directions, products, ones, EXACT, use_products=False)
    assert (both.matrix() - matrix).norm() < 0.5 * (values_alone.matrix() - matrix).norm()


def test_the_mean_solves_the_normal_equations():
    """P A + A S + A / tau^2 = Q, with all matrices built in full."""
    h = Hyperparameters(0.7, 0.3, 0.4)
    v, values, directions, products = evaluations(random_matrix(), 4)
    values = values + 0.1 * torch.randn(values.shape, dtype=torch.float64)
    weights = torch.tensor([1.0, 0.5, 0.2, 1.0], dtype=torch.float64)
    fit = AffineDelta(v, values, directions, products, weights, h)
    centred = v - fit.centre
    s = (centred * weights[:, None]).T @ centred / h.value**2
    p = (directions * weights[:, None]).T @ directions / h.product**2
    q = ((values - fit.offset) * weights[:, None]).T @ centred / h.value**2
    q = q + (directions * weights[:, None]).T @ products / h.product**2
    a = fit.matrix()
    torch.testing.assert_close(p @ a + a @ s + a / h.tau**2, q, atol=1e-9, rtol=1e-9)


def test_directed_the_mean_solves_the_normal_equations_in_the_metric_of_the_products():
    """A S + (P A + A / tau^2) K^-1 = Q_values + Q_products K^-1."""
    h = Hyperparameters(0.7, 0.3, 0.4)
    v, values, directions, products = evaluations(random_matrix(), 4)
    weights = torch.tensor([1.0, 0.5, 0.2, 1.0], dtype=torch.float64)
    fit = AffineDelta(v, values, directions, products, weights, h, directed=True)
    moment = (products * weights[:, None]).T @ products
    k = (1 - EVEN) * PARAMETERS * moment / moment.trace()
    inverse = torch.linalg.inv(k + EVEN * torch.eye(PARAMETERS, dtype=torch.float64))
    centred = v - fit.centre
    s = (centred * weights[:, None]).T @ centred / h.value**2
    p = (directions * weights[:, None]).T @ directions / h.product**2
    q = ((values - fit.offset) * weights[:, None]).T @ centred / h.value**2
    q_products = (directions * weights[:, None]).T @ products / h.product**2
    a = fit.matrix()
    left = a @ s + (p @ a + a / h.tau**2) @ inverse
    torch.testing.assert_close(left, q + q_products @ inverse, atol=1e-9, rtol=1e-9)
    new = torch.randn(3, PARAMETERS, dtype=torch.float64)
    torch.testing.assert_close(fit.mean(new), fit.offset + (new - fit.centre) @ a.T)


def test_directed_slopes_are_learnt_from_fewer_evaluations_than_parameters():
    """All data depend on 6 of 60 directions, which the products show, and noise on none."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    matrix = normal(20, 6) @ normal(6, 60) / 6
    v, directions, new = normal(15, 60), normal(15, 20), normal(200, 60)
    directions = directions / directions.norm(dim=1, keepdim=True)
    values = v @ matrix.T + 0.1 * normal(15, 20)
    products = directions @ matrix + 0.1 * normal(15, 60)
    ones = torch.ones(15, dtype=torch.float64)
    error = {}
    for directed in (False, True):
        fit = AffineDelta(v, values, directions, products, ones, directed=directed)
        error[directed] = float((fit.mean(new) - new @ matrix.T).square().mean().sqrt())
    assert error[True] < 0.5 * error[False], error


def test_the_variance_is_the_mean_squared_error_over_the_prior():
    """A drawn from its prior: errors at new points have the variance that the fit states."""
    h, errors, stated = Hyperparameters(0.8, 0.05, 0.05), [], []
    generator = torch.Generator().manual_seed(1)
    for seed in range(300):
        matrix = random_matrix(seed, h.tau)
        v, values, directions, products = evaluations(matrix, 3, seed)
        values = values + h.value * torch.randn(
            values.shape, generator=generator, dtype=torch.float64
        )
        products = products + h.product * torch.randn(
            products.shape, generator=generator, dtype=torch.float64
        )
        fit = AffineDelta(v, values, directions, products, torch.ones(3, dtype=torch.float64), h)
        new = torch.randn(1, PARAMETERS, generator=generator, dtype=torch.float64)
        along, beside = fit.variance(new)
        error = (1 + new @ matrix.T - fit.mean(new))[0]
        inside = fit.outputs.basis.T @ error
        errors.append(
            [float(inside.square().sum()), float(error.square().sum() - inside.square().sum())]
        )
        rest = DATA - fit.outputs.basis.shape[1]
        stated.append([float(along.sum()), rest * float(beside)])
    ratio = torch.tensor(errors).mean(0) / torch.tensor(stated).mean(0)
    # the centre takes up one observation of the values, which the fit counts as known
    assert (ratio > 0.8).all() and (ratio < 1.5).all(), ratio


@pytest.mark.parametrize("seed", range(4))
def test_the_evidence_of_the_fit_is_no_less_than_that_of_the_truth(seed):
    """At draws of a posterior the values hardly vary, because slope and spread cancel. From their
    scale alone L-BFGS ended where the slope is noise, 150 units below the truth.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    truth = Hyperparameters(0.3, 0.1, 0.05)
    matrix = truth.tau * normal(20, 60)
    inverse = torch.linalg.pinv(matrix)
    v = normal(15, 60)
    v = v - v @ (inverse @ matrix).T + 0.3 * normal(15, 20) @ inverse.T
    directions = normal(15, 20)
    directions = directions / directions.norm(dim=1, keepdim=True)
    values = v @ matrix.T + truth.value * normal(15, 20)
    products = directions @ matrix + truth.product * normal(15, 60)
    fit = AffineDelta(v, values, directions, products, torch.ones(15, dtype=torch.float64))
    found, true = (
        float(fit._loss(torch.tensor([h.tau, h.value, h.product], dtype=torch.float64).log()))
        for h in (fit.hyperparameters, truth)
    )
    assert found < true


def test_the_evidence_finds_the_noise():
    matrix = random_matrix()
    v, values, directions, products = evaluations(matrix, 60)
    generator = torch.Generator().manual_seed(2)
    values = values + 0.2 * torch.randn(values.shape, generator=generator, dtype=torch.float64)
    products = products + 0.05 * torch.randn(
        products.shape, generator=generator, dtype=torch.float64
    )
    fit = AffineDelta(v, values, directions, products, torch.ones(60, dtype=torch.float64))
    assert fit.hyperparameters.value == pytest.approx(0.2, rel=0.15)
    assert fit.hyperparameters.product == pytest.approx(0.05, rel=0.15)
    assert fit.hyperparameters.tau == pytest.approx(float(matrix.std()), rel=0.4)
