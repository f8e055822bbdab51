"""A flow of the logarithm of the data: the base's map at log y, whatever it is asked for."""

from __future__ import annotations

import pytest
import torch

from pflow.errors import PflowError
from pflow.flows import build_flow

SHAPES = {"model_shape": (2,), "data_shape": (2,)}


@pytest.fixture(params=["coupling", "chint"])
def flow(request):
    torch.manual_seed(0)
    base = {"name": request.param, **SHAPES, "depth": 2, "hidden": 8}
    flow = build_flow("log_data", **SHAPES, base=base).double()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return flow


def pairs(count: int = 200):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    return x, (10 * torch.randn(count, 2, generator=generator, dtype=torch.float64)).exp()


def test_densities_and_draws_are_those_of_the_base_at_the_logarithm(flow):
    x, y = pairs()
    flow.initialise(x, y)
    for method in ("log_prob", "log_prob_pairs"):
        assert torch.equal(getattr(flow, method)(x, y), getattr(flow.base, method)(x, y.log()))
    one, generator = y[:1], lambda: torch.Generator().manual_seed(2)
    draws, log_q = flow.sample_with_log_prob(one, 50, generator())
    assert torch.equal(draws, flow.base.sample(one.log(), 50, generator()))
    torch.testing.assert_close(log_q, flow.log_prob(draws, one), rtol=0, atol=1e-8)
    assert torch.equal(flow.condition(y), y.log()) and torch.equal(flow.base.condition(y), y)


def test_data_over_many_orders_of_magnitude_are_normalised_by_their_logarithms(flow):
    x, y = pairs(2000)
    flow.initialise(x, y)
    if hasattr(flow.base, "data_scale"):
        seen = (flow.condition(y) - flow.base.data_shift) * flow.base.data_scale
        assert seen.abs().max() < 6, "of plain data the largest would be at 40 or more"


def test_data_that_are_not_positive_are_refused_with_the_way_out(flow):
    x, y = pairs(10)
    y[3, 1], y[4, 0] = -0.25, 0.0
    with pytest.raises(PflowError) as error:
        flow.log_prob(x, y)
    message = str(error.value)
    assert "must be positive" in message and "2 of 20 are not (the smallest is -0.25)" in message
    assert "leave data_transform of this flow out" in message
