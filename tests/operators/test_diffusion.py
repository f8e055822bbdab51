"""Diffusion against solutions on paper, and its derivatives against differences."""

from __future__ import annotations

import math

import pytest
import torch

from pflow.errors import PflowError
from pflow.operators import check_operator, diffusion
from pflow.operators.diffusion import Diffusion
from pflow.operators.points import inner_grid

MESHES = [(8, 32), (8, 8), (16, 8)]  # several elements a cell, one, and several cells an element


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def test_the_homogeneous_square_has_the_solution_of_its_fourier_series():
    u = sum(
        16 / math.pi**4 * math.sin(i * math.pi / 2) * math.sin(j * math.pi / 2)
        / (i * j * (i**2 + j**2))
        for i in range(1, 200, 2)
        for j in range(1, 200, 2)
    )  # fmt: skip
    centre = torch.tensor([[0.5, 0.5]])
    x = torch.full((1, 16), 0.7, dtype=torch.float64)
    found = Diffusion(4, 64, centre)(x).item() * math.exp(0.7)
    assert found == pytest.approx(u, rel=5e-4)


def test_a_manufactured_solution_is_reached_with_second_order():
    """u = sin(pi a) sin(2 pi b) across and along, x = sin(a + 2 b): f = -div(e^x grad u)."""
    points = torch.tensor([[0.21, 0.13], [0.5, 0.25], [0.83, 0.71], [0.4, 0.9]])
    errors = []
    for n in (16, 32, 64):
        middle = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        b, a = torch.meshgrid(middle, middle, indexing="ij")
        x = torch.sin(a + 2 * b)
        u = torch.sin(math.pi * a) * torch.sin(2 * math.pi * b)
        across = math.pi * torch.cos(math.pi * a) * torch.sin(2 * math.pi * b)
        along = 2 * math.pi * torch.sin(math.pi * a) * torch.cos(2 * math.pi * b)
        slope = torch.cos(a + 2 * b)
        f = x.exp() * (5 * math.pi**2 * u - slope * (across + 2 * along))
        found = Diffusion(n, n, points, f)(x.reshape(1, -1))[0]
        p, q = points.double().T
        errors.append((found - torch.sin(math.pi * p) * torch.sin(2 * math.pi * q)).abs().max())
    assert errors[0] < 0.05
    assert errors[1] < errors[0] / 3 and errors[2] < errors[1] / 3


def test_a_channel_of_high_coefficient_lies_where_its_cell_does():
    """The first row of cells lies along the edge from (0, 0) to (1, 0): stiff there, u is small."""
    x = torch.zeros(1, 4, 4, dtype=torch.float64)
    x[0, 0] = 4
    across, along = torch.tensor([[0.5, 0.125]]), torch.tensor([[0.125, 0.5]])
    assert Diffusion(4, 16, across)(x.flatten(1)) < 0.2 * Diffusion(4, 16, along)(x.flatten(1))


def test_an_element_of_several_cells_has_their_geometric_mean():
    coarse, cells = randn(2, 4, 4), torch.tensor([[1.0, -1.0], [2.0, -2.0]], dtype=torch.float64)
    fine = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2) + cells.repeat(4, 4)
    points = inner_grid(3)
    torch.testing.assert_close(
        Diffusion(8, 4, points)(fine.flatten(1)), Diffusion(4, 4, points)(coarse.flatten(1))
    )


@pytest.mark.parametrize(("side", "mesh"), MESHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_passes_its_checks(side, mesh, dtype):
    operator = Diffusion(side, mesh, inner_grid(5), 10.0)
    found = check_operator(operator, randn(4, side**2).to(dtype), seeded())
    assert found["taylor_slope"] > 1.9


@pytest.mark.parametrize(("side", "mesh"), MESHES)
def test_the_tangent_is_the_derivative_and_the_adjoint_its_transpose(side, mesh):
    operator, h = Diffusion(side, mesh, inner_grid(5), 10.0), 1e-5
    x, d, v = randn(3, side**2), randn(3, side**2, seed=1), randn(3, 25, seed=2)
    tangent = operator.jvp(x, d)
    differences = (operator(x + h * d) - operator(x - h * d)) / (2 * h)
    torch.testing.assert_close(tangent, differences, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        (tangent * v).sum(1), (operator.vjp(x, v) * d).sum(1), rtol=1e-11, atol=1e-12
    )


def test_value_and_gradient_share_one_factorisation_and_nothing_is_remembered(monkeypatch):
    counted = []

    def counting(band):
        counted.append(len(band))
        return factorised(band)

    factorised = diffusion.factorised
    monkeypatch.setattr(diffusion, "factorised", counting)
    operator = Diffusion(4, 8, inner_grid(3))
    for _ in range(2):  # the same x again costs the same again
        x = randn(5, 16).requires_grad_()
        operator(x).sum().backward()
    assert counted == [5, 5]
    torch.testing.assert_close(
        x.grad, operator.vjp(x.detach(), torch.ones(5, 9, dtype=torch.float64))
    )


def test_a_contrast_that_float64_cannot_bear_has_no_data():
    x = torch.zeros(3, 16, dtype=torch.float64)
    x[1, 0], x[2] = 24.0, 300.0
    y = Diffusion(4, 8, inner_grid(3))(x)
    assert y[0].isfinite().all() and y[1:].isnan().all()


@pytest.mark.parametrize(("side", "mesh"), [(8, 12), (8, 2), (6, 4)])
def test_meshes_that_do_not_fit_the_cells_are_refused(side, mesh):
    with pytest.raises(PflowError, match=rf"`mesh` \(={mesh}\) must be at least 4"):
        Diffusion(side, mesh, inner_grid(3))
