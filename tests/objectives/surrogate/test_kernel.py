"""The Gaussian process in few parameters: interactions, products, uncertainty."""

from __future__ import annotations

import torch

from pflow.objectives.surrogate.kernel import KernelDelta

DATA = 4


def evaluations(count, seed=0):
    """Points, values, residual directions and adjoint products of a function whose parameters
    interact."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    r = torch.randn(count, DATA, generator=generator, dtype=torch.float64)
    r = r / r.norm(dim=1, keepdim=True)
    points = v.clone().requires_grad_()
    values = function(points)
    (products,) = torch.autograd.grad((values * r).sum(), points)
    return v, values.detach(), r, products


def function(v):
    a, b, c = v.unbind(1)
    return torch.stack([torch.sin(0.5 * a * b), a + c.square(), torch.exp(0.3 * (b - c)), 2 - b], 1)


def error(fit, seed=9):
    v = 0.7 * evaluations(200, seed)[0]
    return float((fit.mean(v) - function(v)).square().mean().sqrt())


def test_interactions_are_learnt_and_products_help():
    v, values, r, products = evaluations(12)
    weights = torch.ones(12, dtype=torch.float64)
    with_products = error(KernelDelta(v, values, r, products, weights))
    by_values = error(KernelDelta(v, values, torch.zeros_like(r), products, weights))
    assert with_products < 0.6 * by_values and with_products < 0.04
    assert error(KernelDelta(*evaluations(30), torch.ones(30, dtype=torch.float64))) < 0.02


def test_products_enter_with_their_sign_and_place():
    """Without noise the model's own products at the evaluated points are those that it was told."""
    v, values, r, products = evaluations(12)
    fit = KernelDelta(v, values, r, products, torch.ones(12, dtype=torch.float64))
    learnt = torch.stack([fit.jacobian(at).T @ along for at, along in zip(v, r, strict=True)])
    torch.testing.assert_close(learnt, products, atol=0.02, rtol=0.02)
    torch.testing.assert_close(fit.mean(v), values, atol=0.02, rtol=0)


def test_what_is_far_is_not_known():
    v, values, r, products = evaluations(30)
    fit = KernelDelta(v, values, r, products, torch.ones(30, dtype=torch.float64))
    near, nothing = fit.variance(v)
    far, _ = fit.variance(v + 6)
    assert near.shape == (30, DATA) and (nothing == 0).all()
    assert (far > 100 * near).all()


def test_a_linear_function_stays_linear_far_away():
    v, _, r, _ = evaluations(20)
    matrix = torch.randn(DATA, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    fit = KernelDelta(v, v @ matrix.T, r, r @ matrix, torch.ones(20, dtype=torch.float64))
    torch.testing.assert_close(fit.mean(3 * v), 3 * v @ matrix.T, atol=0.1, rtol=0.02)
