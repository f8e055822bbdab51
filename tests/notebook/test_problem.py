"""`pflow.problem`: functions, matrices and objects become operators; mistakes are one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import aslinearoperator
from torch.distributions import Gamma, Normal, Uniform

import pflow
from pflow.errors import PflowError
from pflow.operators.adapters import MatrixOperator, NumPyOperator

MATRIX = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0]])
STANDARD = ([0.0, 0.0], [1.0, 1.0])


class Physics:
    def A(self, x):
        return x @ torch.as_tensor(MATRIX).to(x).T


OPERATORS = {
    "matrix": MATRIX,
    "tensor": torch.as_tensor(MATRIX),
    "linear operator": aslinearoperator(MATRIX),
    "operator": MatrixOperator(torch.as_tensor(MATRIX)),
    "object with A": Physics(),
    "torch": lambda x: x @ torch.as_tensor(MATRIX).T,
    "numpy": lambda x: x @ MATRIX.T,
}


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_every_kind_of_operator_computes_the_same(operator):
    problem = pflow.problem(operator, STANDARD, 0.1)
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([[1.0, -2.0], [0.5, 0.0]], dtype=dtype)
        assert problem.high_fidelity(x).dtype == dtype
        np.testing.assert_allclose(problem.high_fidelity(x), x.numpy() @ MATRIX.T, rtol=1e-6)
    assert problem.low_fidelity is problem.high_fidelity
    assert problem.data_shape == (3,)


def test_gradients_come_from_autograd_or_from_the_user():
    x, v = torch.tensor([[1.0, -2.0]]), torch.tensor([[1.0, 0.0, 2.0]])
    by_torch = pflow.problem(lambda x: torch.sin(x) @ torch.as_tensor(MATRIX).T, STANDARD, 0.1)
    by_hand = pflow.problem(
        lambda x: np.sin(x) @ MATRIX.T,
        STANDARD,
        0.1,
        gradient=lambda x, v: np.cos(x) * (v @ MATRIX),
    )
    gradients = [p.high_fidelity.vjp(x, v) for p in (by_torch, by_hand)]
    torch.testing.assert_close(*gradients)
    none = pflow.problem(lambda x: np.sin(x) @ MATRIX.T, STANDARD, 0.1)
    assert isinstance(none.high_fidelity, NumPyOperator) and not none.high_fidelity.differentiable


@pytest.mark.parametrize("sine", [np.sin, torch.sin], ids=["numpy", "torch"])
def test_a_function_of_one_model(sine):
    problem = pflow.problem(lambda x: sine(x[:1]) * x[1], STANDARD, 0.1, batched=False)
    assert problem.data_shape == (1,)
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(problem.high_fidelity(x), torch.sin(x[:, :1]) * x[:, 1:])


def test_complex_data_are_real_and_imaginary():
    for fft in (np.fft.rfft, torch.fft.rfft):
        assert pflow.problem(lambda x, fft=fft: fft(x), STANDARD, 0.1).data_shape == (2, 2)


def test_priors():
    standard = pflow.problem(MATRIX, STANDARD, 0.1)
    same = pflow.problem(MATRIX, Normal(torch.zeros(2), 1.0), 0.1)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(standard.log_prior(x), same.log_prior(x))
    bounded = pflow.problem(MATRIX, {"a": Uniform(0.0, 2.0), "b": Gamma(2.0, 1.0)}, 0.1)
    draws = bounded.physical(bounded.sample_prior(200, torch.Generator().manual_seed(0)))
    assert (draws > 0).all() and (draws[:, 0] < 2).all()
    assert bounded.parameter_names == ("a", "b")
    assert pflow.problem(np.ones((1, 1)), (0.0, 1.0), 0.1).model_shape == (1,)


MISTAKES = {
    "one row for all": (lambda x: x.sum(), STANDARD, 0.1, "batched=False"),
    "rows that depend on each other": (lambda x: x - x.mean(0), STANDARD, 0.1, "by itself"),
    "failure": (lambda x: x @ np.ones(7), STANDARD, 0.1, "failed on a batch of 3 models"),
    "text": ("F", STANDARD, 0.1, "must be a function"),
    "negative spread": (MATRIX, ([0, 0], [1, -1]), 0.1, "positive standard deviations"),
    "shapes of the prior": (MATRIX, ([0, 0], [1, 1, 1]), 0.1, "of one shape"),
    "prior of one number": (MATRIX, Normal(0.0, 1.0), 0.1, "has axes"),
    "prior of the wrong size": (MATRIX, ([0.0] * 3, [1.0] * 3), 0.1, "make them equal"),
    "no prior": (MATRIX, "normal", 0.1, "must be (mean, std)"),
    "no noise": (MATRIX, STANDARD, None, "either `noise_std`"),
    "negative noise": (MATRIX, STANDARD, -0.1, "must be a positive number"),
    "noise of another shape": (MATRIX, STANDARD, [0.1, 0.1], "one for each datum"),
}


@pytest.mark.parametrize(
    ("operator", "prior", "noise_std", "words"), MISTAKES.values(), ids=MISTAKES
)
def test_mistakes_are_one_line(operator, prior, noise_std, words):
    with pytest.raises(PflowError) as caught:
        pflow.problem(operator, prior, noise_std)
    assert words in str(caught.value) and "\n" not in str(caught.value)
