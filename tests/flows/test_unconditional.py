"""An unconditional flow: the same density whatever y is, exact, and learnt from the models
alone.
"""

from __future__ import annotations

import pytest
import torch
from torch.autograd.functional import jacobian

from pflow.config.flows import CouplingFlowSettings
from pflow.flows import build_flow
from pflow.stages.io.weights import architecture_of


def flow(model_shape=(2,), data_shape=(3,)):
    torch.manual_seed(0)
    found = build_flow(
        **architecture_of(
            CouplingFlowSettings(depth=2, hidden=8, conditional=False), model_shape, data_shape
        )
    ).double()
    for parameter in found.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return found


@pytest.mark.parametrize(("model_shape", "data_shape"), [((2,), (3,)), ((1, 8, 8), (1, 8, 8))])
def test_y_plays_no_part_and_the_inverse_is_exact(model_shape, data_shape):
    found = flow(model_shape, data_shape)
    x, y = torch.randn(5, *model_shape).double(), torch.randn(5, *data_shape).double()
    z, log_determinant = found(x, y)
    torch.testing.assert_close(z, found(x, y[:1] + 1)[0], rtol=0, atol=0)
    back, inverse_log_determinant = found.inverse(z, y)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(inverse_log_determinant, -log_determinant)
    matrix = jacobian(lambda row: found(row[None], y[:1])[0].flatten(), x[0]).reshape(
        x[0].numel(), -1
    )
    torch.testing.assert_close(torch.linalg.slogdet(matrix).logabsdet, log_determinant[0])


def test_a_flow_of_images_that_ignores_the_data_has_no_weights_for_them():
    weights = {name for name, _ in flow((1, 8, 8), (1, 8, 8)).named_parameters()}
    assert any("levels" in name for name in weights)
    assert not any("pyramid" in name for name in weights)


def test_it_learns_the_marginal_of_the_models():
    x = torch.randn(512, 2, generator=torch.Generator().manual_seed(1)).double() * torch.tensor(
        [3.0, 0.5]
    ) + torch.tensor([1.0, -2.0])
    found = build_flow(
        **architecture_of(CouplingFlowSettings(depth=2, hidden=8, conditional=False), (2,), (2,))
    ).double()
    with torch.no_grad():
        found.initialise(x, x)
    assert bool(found.initialised)
    optimiser = torch.optim.Adam(found.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        loss = -found.log_prob(x, x).mean()
        loss.backward()
        optimiser.step()
    entropy = 1 + torch.log(torch.tensor(2 * torch.pi)) + torch.log(torch.tensor(3.0 * 0.5))
    assert float(loss.detach()) == pytest.approx(float(entropy), abs=0.15)
