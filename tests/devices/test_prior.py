"""A flow as the prior answers wherever the question comes from: the surrogate's model of F asks on
the CPU in float64.
"""

from __future__ import annotations

import pytest
import torch

from pflow.flows import build_flow
from pflow.stages.io.priors import FrozenFlow
from tests.support.second_device import OnDevice, second_device

SHAPES = {"model_shape": (4,), "data_shape": (3,), "depth": 2, "hidden": 8}


def density_and_score(prior: FrozenFlow, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.detach().requires_grad_()
    value = prior.log_density(x)
    return value.detach(), torch.autograd.grad(value.sum(), x)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_answers_in_the_precision_and_on_the_device_of_the_question(dtype):
    torch.manual_seed(0)
    x, y = torch.randn(6, 4), torch.randn(1, 3)
    flow = build_flow("coupling", **SHAPES)
    expected = density_and_score(FrozenFlow(flow, y), x)
    with second_device() as device:
        prior = FrozenFlow(flow.to(device), y.to(device))
        here = density_and_score(prior, x.to(dtype))
        there = density_and_score(prior, x.to(device, dtype))
    for found, wanted in zip(here, expected, strict=True):
        assert found.dtype == dtype and not isinstance(found, OnDevice)
        torch.testing.assert_close(found.float(), wanted)
    for found, wanted in zip(there, expected, strict=True):
        assert found.dtype == dtype and isinstance(found, OnDevice)
        torch.testing.assert_close(found.cpu().float(), wanted)
