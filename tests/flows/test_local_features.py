"""Features that are free at every pixel: they wait for one observation, and then tell a flow that
ignores the data one pixel from another.
"""

from __future__ import annotations

import pytest
import torch

from pflow.flows import build_flow
from pflow.flows.image_coupling import LOCAL_SCALE

SHAPE = (1, 16, 16)
COUPLING = {"name": "coupling", "model_shape": SHAPE, "data_shape": SHAPE, "levels": 1}
COUPLING |= {"depth": 2, "hidden": 6}


def moved(**settings):
    """A flow that ignores the data, with weights that have an effect, in float64."""
    torch.manual_seed(0)
    base = {**COUPLING, "conditional": False, **settings}
    flow = build_flow("unconditional", model_shape=SHAPE, data_shape=SHAPE, base=base).double()
    with torch.no_grad():
        for weight in flow.base.levels.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return flow


@pytest.mark.parametrize("conditional", [True, False])
def test_they_are_zero_and_no_weight_of_pretraining(conditional):
    flow = build_flow(**COUPLING, conditional=conditional)
    assert not any(features.any() for features in flow.local_features)
    trained = {name for name, weight in flow.named_parameters() if weight.requires_grad}
    assert trained and not any("local_features" in name for name in trained)


def test_one_level_has_them_at_half_the_resolution_of_the_one_before():
    flow = build_flow(**{**COUPLING, "levels": 3})
    shapes = [tuple(features.shape) for features in flow.local_features]
    assert shapes == [(1, 6, 8, 8), (1, 6, 4, 4), (1, 6, 2, 2)]


@pytest.mark.parametrize("memory", ["store", "checkpoint", "invert"])
def test_one_pixel_of_them_changes_the_flow_there_and_leaves_what_is_far(memory):
    flow = moved(memory=memory)
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    y = torch.zeros(1, *SHAPE).double()
    before = flow.inverse(x, y)[0]
    with torch.no_grad():
        flow.base.local_features[0][..., 1, 1] = 0.1
    change = (flow.inverse(x, y)[0] - before).detach().abs()
    assert change[..., 2:4, 2:4].min() > 1e-4
    assert change[..., 12:, 12:].max() == 0


def test_their_gradient_is_that_of_features_of_the_data_times_the_scale():
    flow = build_flow(**COUPLING).double()
    flow.requires_grad_(True)
    with torch.no_grad():
        for weight in flow.levels.parameters():
            weight += 0.1 * torch.randn_like(weight)
    x, y = torch.randn(4, *SHAPE).double(), torch.randn(1, *SHAPE).double()
    features = [part.detach().requires_grad_() for part in flow._data_features(flow.pyramid, y)]
    flow._data_features = lambda *_: features
    flow.log_prob(x, y).sum().backward()
    torch.testing.assert_close(flow.local_features[0].grad, LOCAL_SCALE * features[0].grad)
