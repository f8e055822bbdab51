"""The forecast shift of a posterior, against shifted posteriors."""

from __future__ import annotations

import pytest
import torch

from pflow.objectives.surrogate.forecast import expected_shift
from pflow.objectives.surrogate.gaussian import PosteriorGaussian


def test_the_shift_is_that_of_a_linear_operator_with_wrong_predictions():
    generator = torch.Generator().manual_seed(0)
    jacobian = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    precision = torch.eye(8, dtype=torch.float64) + jacobian.T @ jacobian
    factor = torch.linalg.cholesky(precision)
    errors = 0.3 * torch.randn(20_000, 5, generator=generator, dtype=torch.float64)
    moved = torch.linalg.solve(precision, jacobian.T @ errors.T).T
    in_deviations = moved @ factor  # whitened by the posterior
    expected = float(in_deviations.square().mean().sqrt())
    frame = PosteriorGaussian(torch.zeros(8, dtype=torch.float64), factor)
    assert expected_shift(frame, 0.09) == pytest.approx(expected, rel=0.02)
