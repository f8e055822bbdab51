"""The affine part of a score against least squares that know nothing of eigenvectors."""

from __future__ import annotations

import pytest
import torch

from pflow.objectives.affine_score import AffineScore

SIZE = 5


def points(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, SIZE, generator=generator, dtype=torch.float64)
    r = torch.randn(count, SIZE, generator=generator, dtype=torch.float64)
    weight = 0.5 + torch.rand(count, generator=generator, dtype=torch.float64)
    out = torch.arange(count) % 4 == 1
    return z, r, weight, out


def by_descent(z, r, weight, ridge):
    """b and the symmetric M of least penalised squares, by L-BFGS."""
    half = torch.zeros(SIZE, SIZE, dtype=torch.float64, requires_grad=True)
    b = torch.zeros(SIZE, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [half, b], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-12
    )

    def closure():
        optimiser.zero_grad()
        matrix = half + half.T
        squares = (r - b + z @ matrix).square().sum(1)
        loss = (weight * squares).sum() + ridge * matrix.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return (half + half.T).detach(), b.detach()


@pytest.mark.parametrize("count", [5, 40], ids=["fewer points than parameters", "more"])
def test_matrix_and_shift_are_those_of_penalised_least_squares(count):
    z, r, weight, out = points(count)
    fit = AffineScore(z, r, weight, out)
    matrix, b = fit.matrix(0.1)
    total = float(weight[~out].sum())
    expected, shift = by_descent(z[~out], r[~out], weight[~out], 0.1 * total)
    torch.testing.assert_close(matrix, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(b, shift, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [3, 5, 40])
def test_eigenvectors_are_those_of_the_matrix(count):
    fit = AffineScore(*points(count))
    matrix, b = fit.matrix(0.1)
    values, vectors, again = fit.eigenvectors(0.1)
    torch.testing.assert_close((vectors * values) @ vectors.T, matrix)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(len(values)).double())
    torch.testing.assert_close(again, b)


@pytest.mark.parametrize("count", [5, 40])
def test_errors_are_those_at_the_points_left_out(count):
    z, r, weight, out = points(count)
    fit = AffineScore(z, r, weight, out)
    matrix, b = fit.matrix(0.3)
    squares = (r - b + z @ matrix)[out].square().sum(1)
    # the means of the fit stand for those of the points left out, in units of their roots
    expected = float((weight[out] * squares).sum() / weight[out].sum() / SIZE)
    assert fit.error(0.3) == pytest.approx(expected)
    without = float((weight[out] * r[out].square().sum(1)).sum() / weight[out].sum() / SIZE)
    assert fit.error_without == pytest.approx(without)


def test_the_score_of_a_gaussian_is_found_from_few_points():
    """r = b - M z exactly: D + 1 points and no ridge tell M and b."""
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    matrix, b = root + root.T, torch.randn(SIZE, generator=generator, dtype=torch.float64)
    z = torch.randn(9, SIZE, generator=generator, dtype=torch.float64)
    out = torch.arange(9) >= 7
    fit = AffineScore(z, b - z @ matrix, torch.ones(9, dtype=torch.float64), out)
    found, shift = fit.matrix(1e-12)
    torch.testing.assert_close(found, matrix, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(shift, b, atol=1e-8, rtol=1e-8)
    assert fit.error(1e-12) < 1e-16 < fit.error_without
