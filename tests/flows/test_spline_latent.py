"""Splines in the latent: the base alone until they are awake, and the identity at first."""

from __future__ import annotations

import pytest
import torch

from pflow.errors import PflowError
from pflow.flows import build_flow
from pflow.flows.splines import rational_quadratic_spline

SHAPES = {"model_shape": (3,), "data_shape": (2,)}
BASE = {"name": "coupling", **SHAPES, "depth": 2, "hidden": 8}


def moved(flow):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return flow


def test_asleep_it_is_the_base_and_awake_it_starts_there():
    flow = build_flow("spline_latent", **SHAPES, base=BASE).double()
    moved(flow.base)
    x, y = torch.randn(20, 3).double(), torch.randn(1, 2).double()
    expected = flow.base.log_prob(x, y)
    assert torch.equal(flow.log_prob(x, y), expected)
    flow.wake()
    torch.testing.assert_close(flow.log_prob(x, y), expected, rtol=0, atol=1e-9)
    moved(flow)
    assert (flow.log_prob(x, y) - expected).abs().max() > 0.1


def test_whether_it_is_awake_is_kept_with_the_weights():
    flow, again = (build_flow("spline_latent", **SHAPES, base=BASE) for _ in range(2))
    flow.wake()
    again.load_state_dict(moved(flow).state_dict())
    x, y = torch.randn(20, 3), torch.randn(1, 2)
    assert torch.equal(again.log_prob(x, y), flow.log_prob(x, y))


def test_a_spline_is_monotone_smooth_and_the_identity_far_out():
    parameters = torch.randn(1, 1, 23, generator=torch.Generator().manual_seed(1)).double()
    x = torch.linspace(-6, 6, 40001).double()[:, None]
    y, log_slope = rational_quadratic_spline(x, parameters.expand(len(x), -1, -1), 5.0)
    assert (y.diff(dim=0) > 0).all() and torch.equal(y[x.abs() >= 5], x[x.abs() >= 5])
    middle = 0.5 * (log_slope.exp()[1:] + log_slope.exp()[:-1])
    torch.testing.assert_close(y.diff(dim=0) / x.diff(dim=0), middle, rtol=0.02, atol=1e-3)


def test_impossible_bounds_are_refused():
    with pytest.raises(PflowError, match="`bound` \\(=0\\) of a spline_latent flow"):
        build_flow("spline_latent", **SHAPES, base=BASE, bound=0)
