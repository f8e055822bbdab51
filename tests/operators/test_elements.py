"""Bilinear elements against quadrature, dense algebra, and each other."""

from __future__ import annotations

import math

import pytest
import torch

from pflow.errors import PflowError
from pflow.operators.elements import (
    LOCAL,
    applied,
    energies,
    factorised,
    load,
    solved,
    stiffness_band,
)
from pflow.operators.points import BilinearPoints, inner_grid


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def with_edge(values):
    """Values of inner nodes, 0 on the edge."""
    return torch.nn.functional.pad(values, (1, 1, 1, 1))


def dense(k):
    """A(k) of one mesh, column by column."""
    n = k.shape[-1]
    units = with_edge(torch.eye((n - 1) ** 2, dtype=torch.float64).reshape(-1, n - 1, n - 1))
    return applied(k.expand(len(units), n, n), units)[:, 1:-1, 1:-1].flatten(1).T


def test_local_stiffness_is_the_integral_of_products_of_gradients():
    """On the unit square, by Gauss quadrature with two points a direction, exact for bilinears."""
    points = torch.tensor([0.5 - math.sqrt(3) / 6, 0.5 + math.sqrt(3) / 6], dtype=torch.float64)
    found = torch.zeros(4, 4, dtype=torch.float64)
    for s in points:  # along, the first index of a node
        for t in points:  # across
            along = torch.stack([t - 1, -t, 1 - t, t])
            across = torch.stack([s - 1, 1 - s, -s, s])
            found += (along[:, None] * along + across[:, None] * across) / 4
    torch.testing.assert_close(LOCAL, found)


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_the_band_is_that_of_the_matrix(n):
    k = randn(1, n, n).exp()
    matrix, band = dense(k), stiffness_band(k)[0]
    size = (n - 1) ** 2
    torch.testing.assert_close(matrix, matrix.T)
    for offset in range(size):
        below = matrix.diagonal(-offset)
        expected = band[: size - offset, offset] if offset <= n else torch.zeros_like(below)
        torch.testing.assert_close(expected, below)


def test_solutions_solve_the_system_of_each_member_of_a_batch():
    k, b = randn(3, 6, 6).exp(), with_edge(randn(3, 5, 5, seed=1))
    u = solved(factorised(stiffness_band(k)), b)
    torch.testing.assert_close(applied(k, u), b)


def test_energies_are_the_derivative_of_the_quadratic_form():
    k, u, v = (
        randn(2, 5, 5).exp(),
        with_edge(randn(2, 4, 4, seed=1)),
        with_edge(randn(2, 4, 4, seed=2)),
    )
    change = randn(2, 5, 5, seed=3)
    expected = (applied(change, u) * v).sum((1, 2))
    torch.testing.assert_close((change * energies(u, v)).sum((1, 2)), expected)
    assert k.min() > 0


def test_a_matrix_that_is_not_positive_definite_gives_nan_and_leaves_the_others():
    k = torch.ones(2, 4, 4, dtype=torch.float64)
    k[0] = -1
    u = solved(factorised(stiffness_band(k)), load(torch.ones(4, 4, dtype=torch.float64)))
    assert u[0, 1:-1, 1:-1].isnan().all() and u[1].isfinite().all()


def test_points_interpolate_bilinear_fields_exactly_and_adjointly():
    points = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.31, 0.77], [0.5, 0.25]], dtype=torch.float64)
    nodes = torch.arange(5, dtype=torch.float64) / 4
    along, across = torch.meshgrid(nodes, nodes, indexing="ij")
    field = (2 + 3 * across - along + 5 * across * along)[None]
    at = BilinearPoints(4, points)
    x, y = points.T
    torch.testing.assert_close(at.values(field)[0], 2 + 3 * x - y + 5 * x * y)
    u, v = randn(2, 5, 5), randn(2, 4, seed=1)
    torch.testing.assert_close((at.values(u) * v).sum(), (at.sources(v) * u).sum())


def test_a_point_outside_is_refused():
    with pytest.raises(PflowError, match=r"\[0.5, 1.5\] does not: move it"):
        BilinearPoints(4, torch.tensor([[0.5, 0.5], [0.5, 1.5]]))


def test_the_inner_grid_runs_along_first():
    assert inner_grid(2).mul(3).round().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
