"""First arrivals against formulas, and their gradient against finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from pflow.errors import PflowError
from pflow.operators import check_operator
from pflow.operators.eikonal import Eikonal
from pflow.operators.rays import StraightRays, centres

VELOCITY = 2000.0


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points(*values):
    return torch.tensor(values, dtype=torch.float64)


def crosswell(rows, columns, sources=3, length=100.0):
    """Wells at the left and the right edge of a section `length` metres deep."""
    spacing = length / rows
    depths = (torch.linspace(0, rows - 1, sources, dtype=torch.float64).round() + 0.5) * spacing
    left = torch.stack([depths, torch.full_like(depths, spacing / 2)], 1)
    right = centres((rows, columns), spacing).reshape(rows, columns, 2)[:, -1]
    return {
        "grid": (rows, columns),
        "spacing": spacing,
        "sources": left,
        "receivers": right,
        "velocity": VELOCITY,
    }


def smooth(n, rows, columns, seed=0, std=0.2):
    """Rough log-velocities, correlated over two cells."""
    white = torch.randn(n, 1, rows + 2, columns + 2, generator=seeded(seed), dtype=torch.float64)
    field = torch.nn.functional.avg_pool2d(white, 3, stride=1)
    return std * (field / field.std()).reshape(n, -1)


def test_the_homogeneous_background_has_no_delay_and_nearly_the_right_times():
    geometry = crosswell(32, 32)
    operator = Eikonal(**geometry)
    assert operator(torch.zeros(1, 32 * 32)).abs().max() == 0
    times = operator.times(torch.zeros(1, 32 * 32), torch.arange(3)[None])[0]
    exact = (
        torch.cdist(geometry["sources"], centres((32, 32), geometry["spacing"])) / VELOCITY * 1000
    )
    far = exact > 20  # milliseconds
    assert ((times - exact) / exact)[
        far
    ].abs().max() < 0.05  # first order: worst along diagonals, and left out of delays


def test_velocity_growing_with_depth_converges_to_the_formula():
    """v = v0 + k z has circular rays: T = arcosh(1 + k^2 r^2 / (2 v1 v2)) / k."""
    k, errors = 20.0, []
    for rows in (16, 32, 64):
        geometry = crosswell(rows, rows)
        depth = centres((rows, rows), geometry["spacing"])[:, 0]
        x = torch.log1p(k * depth / VELOCITY)[None]
        velocity = [VELOCITY + k * geometry[name][:, 0] for name in ("sources", "receivers")]
        distance = torch.cdist(geometry["sources"], geometry["receivers"])
        exact = (
            torch.arccosh(1 + k**2 * distance**2 / (2 * velocity[0][:, None] * velocity[1])) / k
            - distance / VELOCITY
        )
        errors.append(
            (Eikonal(**geometry)(x)[0] - 1000 * exact).abs().max().item()
            / 1000
            / exact.abs().max().item()
        )
    assert errors[0] < 0.05 and errors[2] < 0.7 * errors[1] < 0.49 * errors[0]


def test_first_arrivals_are_hardly_ever_later_than_along_straight_rays():
    geometry, x = crosswell(16, 16), smooth(20, 16, 16)
    bent, straight = Eikonal(**geometry)(x), StraightRays(**geometry)(x)
    assert (
        bent < straight + 2
    ).double().mean() > 0.98 and bent.mean() < straight.mean() - 1  # milliseconds


def test_every_node_satisfies_the_discretised_equation():
    geometry, x = crosswell(12, 10), smooth(5, 12, 10, std=0.4)
    operator = Eikonal(**geometry)
    times = operator.times(x, torch.arange(3).expand(5, 3)).reshape(5, 3, 12, 10)
    padded = torch.nn.functional.pad(times, (1, 1, 1, 1), value=math.inf)
    a = torch.minimum(padded[..., :-2, 1:-1], padded[..., 2:, 1:-1])
    b = torch.minimum(padded[..., 1:-1, :-2], padded[..., 1:-1, 2:])
    found = (times - a).clamp(min=0).square() + (times - b).clamp(min=0).square()
    wanted = (1000 * geometry["spacing"] * torch.exp(-x) / VELOCITY).square().reshape(5, 1, 12, 10)
    distance = torch.cdist(geometry["sources"], centres((12, 10), geometry["spacing"])).reshape(
        3, 12, 10
    )
    far = (distance > 2.5 * geometry["spacing"]).expand_as(times)
    torch.testing.assert_close(found[far], wanted.expand_as(times)[far])


def test_gradient_against_finite_differences_in_every_direction():
    geometry = crosswell(8, 7)
    operator, x = Eikonal(**geometry), smooth(1, 8, 7, seed=3)
    v = torch.randn(1, *operator.data_shape, generator=seeded(1), dtype=torch.float64)
    step, directions = 1e-6, torch.eye(56, dtype=torch.float64)
    expected = ((operator(x + step * directions) - operator(x - step * directions)) * v).flatten(
        1
    ).sum(1) / (2 * step)
    found = operator.vjp(x, v)[0]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7 * float(expected.abs().max()))
    x.requires_grad_()
    torch.testing.assert_close(torch.autograd.grad((operator(x) * v).sum(), x)[0][0], found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operator_passes_its_checks(dtype):
    found = check_operator(Eikonal(**crosswell(10, 12)), smooth(4, 10, 12).to(dtype), seeded())
    assert (
        found["gradient_error"] < (1e-5 if dtype == torch.float32 else 1e-7)
        and found["taylor_slope"] > 1.9
    )


def test_a_source_between_nodes_and_receivers_between_nodes():
    """Moved by half a cell, everything that is seen moves by half a cell's time."""
    wells = {"sources": points((45, 22.5)), "receivers": points((45, 80), (45, 82.5))}
    operator = Eikonal(grid=(18, 18), spacing=5.0, velocity=VELOCITY, **wells)
    slower = torch.full((1, 18 * 18), -math.log(2.0), dtype=torch.float64)
    times = operator(slower)[0, 0]
    torch.testing.assert_close(times, points(57.5, 60) / VELOCITY * 1000, rtol=0.02, atol=0)
    assert (times[1] - times[0]).item() == pytest.approx(1.25, rel=1e-6)
    check_operator(operator, smooth(4, 18, 18), seeded())


def test_subsets_of_sources_are_rows_of_all():
    operator, x = Eikonal(**crosswell(9, 9, sources=4)), smooth(3, 9, 9).requires_grad_()
    chosen = torch.tensor([[0, 3], [2, 1], [1, 0]])
    rows, everything = operator.forward_sources(x, chosen), operator(x)
    picked = torch.take_along_dim(everything, chosen[..., None], 1)
    assert torch.equal(rows, picked) and operator.sources == 4
    v = torch.randn(rows.shape, generator=seeded(), dtype=torch.float64)
    gradients = [torch.autograd.grad((values * v).sum(), x)[0] for values in (rows, picked)]
    torch.testing.assert_close(*gradients)


def test_large_batches_in_parts_give_the_same(monkeypatch):
    operator, x = Eikonal(**crosswell(8, 8)), smooth(5, 8, 8)
    v = torch.ones(5, *operator.data_shape, dtype=torch.float64)
    expected = operator(x), operator.vjp(x, v)
    monkeypatch.setattr("pflow.operators.eikonal.NODES_AT_ONCE", 2 * 3 * 64)
    assert torch.equal(operator(x), expected[0]) and torch.equal(operator.vjp(x, v), expected[1])


def test_impossible_velocities_and_positions_are_refused():
    geometry = crosswell(8, 8)
    with pytest.raises(PflowError, match="finite, positive velocity"):
        Eikonal(**geometry)(torch.full((1, 64), 800.0))
    with pytest.raises(PflowError, match="receivers must lie between the centres"):
        Eikonal(**{**geometry, "receivers": points((1.0, 50.0))})
    with pytest.raises(PflowError, match="must lie in the grid"):
        Eikonal(**{**geometry, "sources": points((50.0, -20.0))})
