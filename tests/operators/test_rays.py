"""Straight rays: exact lengths, and delays that a person can work out."""

from __future__ import annotations

import math

import pytest
import torch

from pflow.errors import PflowError
from pflow.operators import check_operator
from pflow.operators.rays import StraightRays, centres, segment_lengths


def points(*values):
    return torch.tensor(values, dtype=torch.float64)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rays(**changes):
    wells = {"sources": points((1, 1), (9, 1)), "receivers": points((1, 15), (5, 15), (9, 15))}
    return StraightRays(**{"grid": (5, 8), "spacing": 2.0, "velocity": 2000.0, **wells, **changes})


def test_lengths_of_a_horizontal_a_vertical_a_diagonal_and_an_oblique_ray():
    starts, ends = (
        points((1, 0), (0, 3), (0, 0), (0.5, 0)),
        points((1, 6), (4, 3), (4, 4), (2.5, 4)),
    )
    lengths = segment_lengths((2, 3), 2.0, starts, ends).to_dense().reshape(4, 2, 3)
    assert lengths[0].tolist() == [[2, 2, 2], [0, 0, 0]]
    assert lengths[1].tolist() == [[0, 2, 0], [0, 2, 0]]
    diagonal = 2 * math.sqrt(2)
    torch.testing.assert_close(lengths[2], points((diagonal, 0, 0), (0, diagonal, 0)))
    slope = math.sqrt(
        1 + 0.25
    )  # leaves the first column at depth 1.5 and the first row at 3 across
    torch.testing.assert_close(lengths[3], slope * points((2, 1, 0), (0, 1, 0)))


def test_pieces_add_up_to_the_ray():
    generator = torch.Generator().manual_seed(0)
    starts, ends = (
        torch.rand(200, 2, generator=generator, dtype=torch.float64) * points((3.5, 4.5))
        for _ in range(2)
    )
    lengths = segment_lengths((7, 9), 0.5, starts, ends)
    torch.testing.assert_close(lengths.sum(1).to_dense(), (ends - starts).norm(dim=1))
    assert lengths.values().min() > 0


def test_a_ray_that_leaves_the_grid_is_refused():
    with pytest.raises(PflowError, match="must lie in the grid of 10 x 16 metres"):
        rays(receivers=points((11, 15)))


def test_delays_of_a_uniform_change_are_those_of_the_formula():
    operator = rays()
    faster = torch.full(
        (1, 40), math.log(2.0), dtype=torch.float64
    )  # twice the velocity, half the time
    distance = torch.cdist(points((1, 1), (9, 1)), points((1, 15), (5, 15), (9, 15)))
    torch.testing.assert_close(operator(faster)[0], -0.5 * distance / 2000 * 1000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operator_passes_its_checks(dtype):
    check_operator(rays(), 0.3 * randn(4, 40).to(dtype))


def test_the_back_projection_of_a_uniform_change_is_uniform():
    operator = rays(
        sources=points(*((2 * k + 1, 1) for k in range(5))),
        receivers=points(*((2 * k + 1, 15) for k in range(5))),
    )
    found = operator.summary(operator(torch.full((1, 40), 0.01, dtype=torch.float64)))
    torch.testing.assert_close(found, torch.full_like(found, -math.expm1(-0.01)))


def test_the_back_projection_points_at_the_anomaly():
    operator = rays(
        sources=points(*((2 * k + 1, 1) for k in range(5))),
        receivers=points(*((2 * k + 1, 15) for k in range(5))),
    )
    x = torch.zeros(1, 5, 8, dtype=torch.float64)
    x[0, 1, 4] = 0.2
    image = operator.summary(operator(x.flatten(1))).reshape(5, 8)
    assert (
        image.argmax().item() in (1 * 8 + 3, 1 * 8 + 4, 1 * 8 + 5)
        and image.max() > 3 * image[4].abs().max()
    )


def test_cells_without_rays_are_zero_in_the_back_projection():
    operator = rays(sources=points((1, 1)), receivers=points((1, 15)))
    image = operator.summary(torch.ones(1, 1, 1, dtype=torch.float64)).reshape(5, 8)
    assert (image[1:] == 0).all() and (image[0] != 0).all()


def test_models_of_any_shape_give_the_same_delays():
    x = randn(3, 40)
    torch.testing.assert_close(rays(model_shape=(1, 5, 8))(x.reshape(3, 1, 5, 8)), rays()(x))


def test_centres_go_row_by_row():
    assert centres((2, 2), 3.0).tolist() == [[1.5, 1.5], [1.5, 4.5], [4.5, 1.5], [4.5, 4.5]]
