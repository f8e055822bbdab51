"""The forecast shift of a posterior, against shifted posteriors."""

from __future__ import annotations

import pytest
import torch

from pflow.objectives.surrogate.forecast import expected_shift, next_shift
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


@pytest.mark.parametrize("power", [0.7, 2.0])
def test_the_next_shift_follows_the_course_of_a_power(power):
    course = [(n, n**-power) for n in range(20, 101, 4)]
    assert next_shift(course, 60) == pytest.approx(100**-power - 160**-power)


def test_an_error_that_stands_still_is_not_trusted():
    """A course that rises or stays is taken to fall with the square root; few rounds like 1 / n."""
    for course in ([(n, 0.1) for n in range(20, 101, 4)], [(50, 0.05), (80, 0.08), (100, 0.1)]):
        assert next_shift(course, 100) == pytest.approx(0.1 * (1 - 2**-0.5))
    assert next_shift([(90, 0.01), (100, 0.1)], 100) == pytest.approx(0.05)
