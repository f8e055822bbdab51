"""Adapters: each is the operator it wraps, passes the checks in both precisions, and says in plain
words what it cannot do.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from pflow.errors import PflowError
from pflow.inference.target import Target
from pflow.operators import check_operator, dense_matrix
from pflow.operators.adapters import (
    ComposedOperator,
    LinearOperatorAdapter,
    MatrixOperator,
    ModuleOperator,
    NumPyOperator,
    PhysicsOperator,
    TorchOperator,
)
from pflow.problems import Gaussian, PriorProblem
from tests.support.draws import draws

MATRIX = draws(5, 6)
COMPLEX = torch.complex(draws(3, 6, seed=1), draws(3, 6, seed=2))


class Physics:
    def A(self, x, **kwargs):
        return x @ MATRIX.to(x).T

    def A_adjoint(self, y, **kwargs):
        return y @ MATRIX.to(y)


class NonlinearPhysics:
    def A(self, x, **kwargs):
        return x.sin()


class OwnGradientPhysics(NonlinearPhysics):
    calls = 0

    def A_vjp(self, x, v):
        self.calls += 1
        return x.cos() * v


torch.manual_seed(0)
NETWORK = torch.nn.Sequential(
    torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Dropout(), torch.nn.Linear(8, 5)
)

LINEAR = {
    "torch": TorchOperator(lambda x: x @ MATRIX.to(x).T, (6,), (5,), linear=True),
    "numpy": NumPyOperator(
        lambda x: x @ MATRIX.numpy().T, (6,), (5,), lambda x, v: v @ MATRIX.numpy(), linear=True
    ),
    "numpy, one by one": NumPyOperator(
        lambda x: MATRIX.numpy() @ x,
        (6,),
        (5,),
        lambda x, v: v @ MATRIX.numpy(),
        linear=True,
        batched=False,
    ),
    "scipy sparse": LinearOperatorAdapter(aslinearoperator(scipy.sparse.csr_array(MATRIX.numpy()))),
    "scipy functions": LinearOperatorAdapter(
        LinearOperator(
            (5, 6),
            matvec=lambda x: MATRIX.numpy() @ x.ravel(),
            rmatvec=lambda v: MATRIX.numpy().T @ v.ravel(),
            dtype=np.float64,
        )
    ),
    "deepinv": PhysicsOperator(Physics(), (6,), (5,)),
    "composed": ComposedOperator(MatrixOperator(MATRIX), lambda x: 1.0 * x, (6,)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_adapters_are_the_matrix(name):
    operator, matrix = LINEAR[name], MATRIX
    x, v = draws(7, 6, seed=3), draws(7, 5, seed=4)
    torch.testing.assert_close(operator(x), x @ matrix.T)
    torch.testing.assert_close(operator.vjp(x, v), v @ matrix)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        results = check_operator(operator, x.to(dtype), torch.Generator().manual_seed(5))
        assert results["gradient_error"] < 1e-3
        if operator.linear:
            assert results["dot_test_error"] < tolerance
            torch.testing.assert_close(operator.adjoint(v), v @ matrix)


NONLINEAR = {
    "torch": (TorchOperator(torch.sin, (6,), (6,)), torch.sin),
    "module": (ModuleOperator(NETWORK, (6,), (5,)), None),
    "numpy": (NumPyOperator(np.sin, (6,), (6,), lambda x, v: np.cos(x) * v), torch.sin),
    "deepinv, autograd": (PhysicsOperator(NonlinearPhysics(), (6,), (6,)), torch.sin),
    "deepinv, own gradient": (PhysicsOperator(OwnGradientPhysics(), (6,), (6,)), torch.sin),
    "composed": (
        ComposedOperator(
            NumPyOperator(np.sin, (6,), (6,), lambda x, v: np.cos(x) * v), torch.exp, (6,)
        ),
        lambda x: x.exp().sin(),
    ),
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_nonlinear_adapters_have_the_gradient_of_autograd(name):
    operator, function = NONLINEAR[name]
    x = draws(6, 6, seed=6)
    check_operator(operator, x, torch.Generator().manual_seed(7))
    check_operator(operator, x.float(), torch.Generator().manual_seed(7))
    if function is not None:
        x.requires_grad_()
        v = draws(6, 6, seed=8)
        torch.testing.assert_close(operator(x), function(x))
        torch.testing.assert_close(
            *(torch.autograd.grad(f(x), x, v)[0] for f in (operator, function))
        )


def test_an_own_gradient_is_used_and_costs_no_second_forward():
    physics = OwnGradientPhysics()
    x = draws(2, 6).requires_grad_()
    PhysicsOperator(physics, (6,), (6,))(x).sum().backward()
    assert physics.calls == 1


def test_modules_are_copied_fixed_and_evaluated():
    operator, x = (
        ModuleOperator(NETWORK, (6,), (5,)),
        draws(4, 6, dtype=torch.float32).requires_grad_(),
    )
    before = operator(x)
    with torch.no_grad():
        NETWORK[0].weight.add_(1.0)
    torch.testing.assert_close(operator(x), before, rtol=0, atol=0)
    before.sum().backward()
    assert x.grad is not None and NETWORK.training and NETWORK[0].weight.grad is None
    with torch.no_grad():
        NETWORK[0].weight.sub_(1.0)


COMPLEX_OPERATORS = {
    "torch": TorchOperator(
        lambda x: torch.complex(x, torch.zeros_like(x)) @ COMPLEX.to(torch.complex(x, x).dtype).T,
        (6,),
        (3, 2),
        linear=True,
    ),
    "scipy": LinearOperatorAdapter(aslinearoperator(COMPLEX.numpy())),
    "numpy": NumPyOperator(
        lambda x: x @ COMPLEX.numpy().T,
        (6,),
        (3, 2),
        lambda x, v: ((v[..., 0] + 1j * v[..., 1]) @ COMPLEX.numpy().conj()).real,
        linear=True,
    ),
}


@pytest.mark.parametrize("name", COMPLEX_OPERATORS)
def test_complex_data_are_real_and_imaginary_parts(name):
    operator, x = COMPLEX_OPERATORS[name], draws(4, 6, seed=9)
    torch.testing.assert_close(torch.view_as_complex(operator(x)), x.to(COMPLEX.dtype) @ COMPLEX.T)
    for dtype in (torch.float32, torch.float64):
        check_operator(operator, x.to(dtype), torch.Generator().manual_seed(10))


def test_pylops_operators_with_their_shapes():
    pylops = pytest.importorskip("pylops")
    smooth = LinearOperatorAdapter(pylops.Smoothing2D(nsmooth=[3, 3], dims=[4, 5]))
    assert smooth.model_shape == smooth.data_shape == (4, 5)
    check_operator(smooth, draws(4, 4, 5), torch.Generator().manual_seed(11))
    flat = LinearOperatorAdapter(pylops.Smoothing2D(nsmooth=[3, 3], dims=[4, 5]), (20,), (20,))
    x = draws(2, 20)
    torch.testing.assert_close(flat(x).reshape(2, 4, 5), smooth(x.reshape(2, 4, 5)))
    fourier = LinearOperatorAdapter(pylops.signalprocessing.FFT(dims=8, norm="ortho"))
    x = draws(3, 8)
    assert fourier.data_shape == (8, 2)
    torch.testing.assert_close(fourier(x).square().sum((1, 2)), x.square().sum(1))
    check_operator(fourier, x, torch.Generator().manual_seed(12))
    assert dense_matrix(smooth).shape == (20, 20)


def test_functions_that_write_into_their_arguments_do_no_harm():
    def overwrites(x):
        x *= 2
        return x

    x = draws(3, 6)
    kept = x.clone()
    operator = NumPyOperator(overwrites, (6,), (6,))
    torch.testing.assert_close(operator(x), 2 * kept)
    assert torch.equal(x, kept)


def test_asking_for_a_gradient_that_does_not_exist_says_what_to_do():
    values = NumPyOperator(lambda x: np.abs(x), (4,), (4,))
    problem = PriorProblem(Gaussian(side=2).prior, values, values, noise_std=0.4)
    x, y = problem.simulate(3, torch.Generator().manual_seed(0), "high")
    assert Target(problem, y[:1], gradient=False).evaluate(x).valid.all()
    with pytest.raises(
        PflowError,
        match="has no gradient, and one was asked for.*objective: auto`, which learns from values",
    ):
        Target(problem, y[:1]).evaluate(x)
    with pytest.raises(PflowError, match="has no gradient"):
        values.vjp(x, y)
    assert ComposedOperator(values, torch.exp, (4,)).differentiable is False


MISTAKES = [
    (
        lambda: LinearOperatorAdapter(aslinearoperator(MATRIX.numpy()), (7,)),
        r"`model_shape` \(=\(7,\)\) must have 6 elements for an operator",
    ),
    (lambda: PhysicsOperator(object(), (6,), (5,)), r"object must have a method `A\(x\)`"),
]


@pytest.mark.parametrize(("make", "message"), MISTAKES)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(PflowError, match=message):
        make()
