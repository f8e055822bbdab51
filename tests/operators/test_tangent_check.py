"""`jvp` is checked against the gradient, or against finite differences where there is none."""

from __future__ import annotations

import pytest
import torch

from pflow.errors import PflowError
from pflow.operators import IdentityOperator, Operator, check_operator
from pflow.operators.composed import ComposedOperator


class Waves(Operator):
    """F(x) = sin(x) + sum(x)^2, with J(x) d times `factor`."""

    def __init__(self, factor: float, differentiable: bool) -> None:
        super().__init__((3,), (3,))
        self.factor, self.differentiable = factor, differentiable

    def forward(self, x):
        return x.sin() + x.sum(1, keepdim=True) ** 2

    def jvp(self, x, d):
        exact = x.cos() * d + 2 * x.sum(1, keepdim=True) * d.sum(1, keepdim=True)
        return self.factor * exact


def check(operator, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, generator=generator, dtype=torch.float64).to(dtype)
    return check_operator(operator, x, generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("differentiable", [True, False])
def test_a_true_derivative_passes(differentiable, dtype):
    error = check(Waves(1.0, differentiable), dtype)["jvp_error"]
    assert error < {torch.float32: 1e-3, torch.float64: 1e-7}[dtype]


@pytest.mark.parametrize("differentiable", [True, False])
@pytest.mark.parametrize("factor", [1.01, -1.0])
def test_a_wrong_one_is_refused_and_named(differentiable, factor):
    with pytest.raises(PflowError, match=r"`Waves.jvp` must be the derivative"):
        check(Waves(factor, differentiable), torch.float64)


@pytest.mark.parametrize("differentiable", [True, False])
def test_a_change_of_variables_keeps_the_derivative(differentiable):
    operator = ComposedOperator(Waves(1.0, differentiable), torch.sigmoid, (3,))
    assert check(operator, torch.float64)["jvp_error"] < 1e-7
    assert ComposedOperator(IdentityOperator((3,)), torch.exp, (3,)).jvp is None
