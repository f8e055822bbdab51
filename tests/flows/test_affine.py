"""An affine layer that carries a Gaussian, and the flow on top of it."""

from __future__ import annotations

import torch
from torch.autograd.functional import jacobian
from torch.distributions import MultivariateNormal

from pflow.flows import build_flow

BASE = {"name": "coupling", "model_shape": (3,), "data_shape": (2,), "depth": 2, "hidden": 8}
MEAN = torch.tensor([1.0, -2.0, 0.5])
ROOT = torch.tensor([[2.0, 0.0, 0.3], [0.5, 1.0, 0.0], [0.0, 0.2, 0.1]])
Y = torch.zeros(1, 2)


def affine(base, moved=False):
    torch.manual_seed(0)
    flow = build_flow("affine", (3,), (2,), base=base)
    flow.set_gaussian(MEAN, ROOT)
    if moved:
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter += 0.2 * torch.randn(parameter.shape)
    return flow.double()


def test_it_is_that_gaussian_with_nothing_and_with_an_untrained_flow_on_top():
    x = torch.randn(5, 3, dtype=torch.float64)
    expected = MultivariateNormal(MEAN.double(), (ROOT @ ROOT.T).double()).log_prob(x)
    for base in (None, BASE):
        torch.testing.assert_close(
            affine(base).log_prob(x, Y.double()), expected, atol=1e-5, rtol=1e-5
        )


def test_inverse_and_jacobian_of_a_trained_flow():
    flow, x = affine(BASE, moved=True), torch.randn(4, 3, dtype=torch.float64)
    z, log_determinant = flow(x, Y.double())
    again, back = flow.inverse(z, Y.double())
    torch.testing.assert_close(again, x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(back, -log_determinant, atol=1e-5, rtol=1e-5)
    for row, expected in zip(x, log_determinant, strict=True):
        matrix = jacobian(lambda point: flow(point[None], Y.double())[0][0], row)
        torch.testing.assert_close(torch.linalg.slogdet(matrix)[1], expected, atol=1e-5, rtol=1e-5)


def test_the_gaussian_travels_with_the_weights():
    flow, other = affine(BASE, moved=True), build_flow("affine", (3,), (2,), base=BASE).double()
    other.load_state_dict(flow.state_dict())
    x = torch.randn(3, 3, dtype=torch.float64)
    assert torch.equal(flow.log_prob(x, Y.double()), other.log_prob(x, Y.double()))
