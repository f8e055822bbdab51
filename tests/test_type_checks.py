"""Declared shapes and dtypes are checked while the tests run."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from pflow.flows.base import standard_normal_log_density
from pflow.flows.wavelet import squeeze
from pflow.operators import MatrixOperator
from pflow.problems import Gaussian


def test_a_tensor_of_another_rank_raises():
    with pytest.raises(TypeCheckError):
        MatrixOperator(torch.ones(3))
    with pytest.raises(TypeCheckError):
        squeeze(torch.ones(1, 4, 4))


def test_a_tensor_of_another_dtype_raises():
    with pytest.raises(TypeCheckError):
        standard_normal_log_density(torch.ones(2, 3, dtype=torch.long))


def test_sizes_that_should_agree_are_compared():
    problem = Gaussian()
    x, y = problem.simulate(3, torch.Generator().manual_seed(0))
    problem.log_likelihood(y, problem.high_fidelity(x))
    with pytest.raises(TypeCheckError):
        problem.log_likelihood(y[:2], problem.high_fidelity(x))
