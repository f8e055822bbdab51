"""Matrices and the identity, and how any operator takes part in autograd."""

from __future__ import annotations

import pytest
import torch

from pflow.errors import PflowError
from pflow.operators import (
    Constant,
    IdentityOperator,
    MatrixOperator,
    Operator,
    check_operator,
    dense_matrix,
    unit_spectral_norm,
)
from tests.support.draws import draws
from tests.support.type_checks import unchecked


class Square(Operator):
    """F(x) = x^2 through a vjp of its own, with a forward that autograd cannot follow."""

    def forward(self, x):
        return torch.from_numpy(x.detach().numpy() ** 2)

    def vjp(self, x, v):
        return 2 * x * v


class SumOfNeighbours(Operator):
    """A linear operator without an adjoint of its own."""

    linear = True

    def forward(self, x):
        return x[..., 1:] + x[..., :-1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "operator",
    [
        MatrixOperator(draws(3, 5)),
        MatrixOperator(draws(4, 2, dtype=torch.float32)),
        IdentityOperator((2, 3)),
    ],
    ids=["wide", "tall", "identity"],
)
def test_linear_operators_pass_every_check(operator, dtype):
    results = check_operator(
        operator, draws(6, *operator.model_shape, dtype=dtype), torch.Generator().manual_seed(1)
    )
    assert results["linear"] and results["dot_test_error"] < 1e-6


def test_matrix_operator_is_the_matrix_product():
    matrix, x, v = draws(3, 5), draws(7, 5, seed=1), draws(7, 3, seed=2)
    operator = MatrixOperator(matrix)
    torch.testing.assert_close(operator(x), torch.stack([matrix @ row for row in x]))
    torch.testing.assert_close(operator.adjoint(v), torch.stack([matrix.T @ row for row in v]))
    torch.testing.assert_close(operator.vjp(x, v), operator.adjoint(v))


def test_float64_stays_exact_after_use_in_float32():
    matrix, x = draws(3, 5), draws(7, 5, seed=1)
    operator = MatrixOperator(matrix)
    assert operator(x.float()).dtype == torch.float32
    torch.testing.assert_close(operator(x), x @ matrix.T, rtol=0, atol=0)


def test_matrix_must_have_two_axes():
    with unchecked(), pytest.raises(PflowError, match=r"two axes .* has shape \(3,\)"):
        MatrixOperator(torch.ones(3))


def test_adjoint_comes_from_autograd_where_none_is_written():
    operator = SumOfNeighbours((4,), (3,))
    matrix = torch.tensor([[1.0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], dtype=torch.float64)
    torch.testing.assert_close(dense_matrix(operator), matrix)
    v = draws(5, 3)
    torch.testing.assert_close(operator.adjoint(v), v @ matrix)


def test_nonlinear_operators_have_neither_adjoint_nor_matrix():
    operator = Square((2,), (2,))
    with pytest.raises(PflowError, match="only a linear operator has an adjoint"):
        operator.adjoint(torch.ones(1, 2))
    with pytest.raises(PflowError, match="only a linear operator has a matrix"):
        dense_matrix(operator)


def test_dense_matrix_of_images_goes_over_flattened_pixels():
    torch.testing.assert_close(
        dense_matrix(IdentityOperator((2, 3))), torch.eye(6, dtype=torch.float64)
    )


def test_unit_spectral_norm():
    scaled = unit_spectral_norm(draws(4, 6))
    assert torch.linalg.svdvals(scaled)[0].item() == pytest.approx(1, abs=1e-14)
    torch.testing.assert_close(scaled / scaled[0, 0], draws(4, 6) / draws(4, 6)[0, 0])


def test_calling_an_operator_differentiates_by_its_own_vjp():
    operator, x = Square((3,), (3,)), draws(4, 3).requires_grad_()
    y = operator(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, 2 * x.detach())
    assert not operator(x.detach()).requires_grad


def test_second_derivatives_through_a_vjp_are_refused_not_wrong():
    x = draws(4, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(Square((3,), (3,))(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_constants_follow_the_dtype_and_survive_inference_mode():
    value = torch.ones(2)
    constant = Constant(value)
    value.zero_()
    with torch.inference_mode():
        constant.like(torch.zeros(1))
    x = torch.ones(2, requires_grad=True)
    (gradient,) = torch.autograd.grad((x * constant.like(x)).sum(), x)
    torch.testing.assert_close(gradient, torch.ones(2))
    assert constant.like(torch.zeros(1)) is constant.like(torch.ones(3))


class Root(Operator):
    """F(x) = sqrt(x) for positive x."""

    calls = 0

    def forward(self, x):
        self.calls += len(x)
        return x.sqrt()

    def valid(self, x):
        return (x > 0).all(1)


class RootByHand(Root):
    def vjp(self, x, v):
        return v / (2 * x.sqrt())


@pytest.mark.parametrize("kind", [Root, RootByHand])
def test_data_outside_the_domain_are_nan_and_cost_nothing(kind):
    operator = kind((2,), (2,))
    x = torch.tensor([[1.0, 4.0], [-1.0, 4.0], [9.0, 1.0]], dtype=torch.float64, requires_grad=True)
    y = operator(x)
    assert operator.calls == 2 and y[1].isnan().all()
    torch.testing.assert_close(y[::2], x[::2].sqrt())
    (gradient,) = torch.autograd.grad(y[::2].sum(), x)
    torch.testing.assert_close(gradient[::2], 0.5 / x.detach()[::2].sqrt())
    assert (gradient[1] == 0).all() and operator(-x).isnan().all() and operator.calls == 2
    with torch.no_grad():
        assert operator(x)[1].isnan().all()


def test_summaries_are_adjoints_or_residuals_carried_back():
    y = draws(3, 4)
    matrix = MatrixOperator(draws(4, 6))
    torch.testing.assert_close(matrix.summary(y), y @ matrix.matrix)
    square = Square((4,), (4,))
    assert (square.summary(y) == 0).all()  # linearised at zero, where the square is flat
    square.reference = torch.full((4,), 2.0)
    torch.testing.assert_close(square.summary(y), 4 * (y - 4))


def test_subsets_of_sources_need_an_operator_that_knows_them():
    with pytest.raises(PflowError, match=r"`Square` has no `forward_sources\(x, sources\)`"):
        Square((2,), (2,)).forward_sources(draws(1, 2), torch.zeros(1, 1).long())
