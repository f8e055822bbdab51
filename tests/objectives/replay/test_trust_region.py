"""How far a round may go: exact for Gaussians, cautious beyond."""

from __future__ import annotations

import pytest
import torch

from pflow.objectives.replay.trust_region import reachable
from tests.support.draws import draws


def test_a_posterior_that_is_close_is_reached_at_once():
    u = draws(500, 4)
    assert reachable(u, 0.3 - 0.5 * u, reach=2.0) == 1.0


def test_a_posterior_that_is_narrow_is_no_far_one():
    u = draws(500, 4)
    gap = -1e3 * u  # of N(0, 1 / 1001): no draw moves by more than its own size
    assert reachable(u, gap, reach=1.1) == 1.0
    assert 2.0 / float(gap.square().mean().sqrt()) < 0.01  # what the score alone would allow


def test_a_posterior_that_is_far_away_is_approached_by_the_reach():
    u = draws(2000, 4)
    found = reachable(
        u, torch.full_like(u, 50.0), reach=2.0
    )  # of N(50, 1): at b, draws have moved by 50 b
    assert found == pytest.approx(2.0 / 50.0, rel=1e-2)


def test_moves_are_those_of_gaussians_on_the_geometric_path():
    """q = N(0, I), p = N(m, P^-1): the mean of q^(1-b) p^b is b (I + b (P - I))^-1 P m."""
    mean, precision = (
        torch.tensor([30.0, 0.0], dtype=torch.float64),
        torch.tensor([[5.0, 1.0], [1.0, 2.0]], dtype=torch.float64),
    )
    u = draws(4000, 2)
    found = reachable(u, (mean - u) @ precision + u, reach=3.0)
    path = torch.eye(2, dtype=torch.float64) + found * (
        precision - torch.eye(2, dtype=torch.float64)
    )
    shift = found * torch.linalg.solve(path, precision @ mean)
    spread = found * torch.linalg.solve(path, precision - torch.eye(2, dtype=torch.float64))
    moved = ((shift.square().sum() + spread.square().sum()) / 2).sqrt()
    assert float(moved) == pytest.approx(3.0, rel=0.05)


def test_what_is_not_affine_is_not_divided_by_the_stiffness():
    u = draws(4000, 1)
    stiff, wavy = -1e3 * u, 1e3 * torch.cos(6 * u)
    assert reachable(u, stiff + wavy, reach=2.0) < 0.01


def test_few_draws_of_many_unknowns_know_a_stiffness_for_each():
    u = draws(60, 50)
    assert reachable(u, -1e3 * u, reach=1.3) == 1.0
    assert reachable(u, torch.full_like(u, 50.0), reach=2.0) == pytest.approx(2.0 / 50.0, rel=0.1)
