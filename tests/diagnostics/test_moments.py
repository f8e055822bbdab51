"""Moment errors in posterior standard deviations."""

from __future__ import annotations

import numpy as np
import pytest

from pflow.diagnostics.moments import mean_error, std_error


def test_errors_are_averages_in_reference_standard_deviations():
    assert mean_error([1.0, 5.0], [0.0, 3.0], [2.0, 1.0]) == pytest.approx((0.5 + 2.0) / 2)
    assert std_error([1.0, 3.0], [2.0, 2.0]) == pytest.approx(0.5)


def test_errors_do_not_depend_on_units():
    rng = np.random.default_rng(0)
    mean, reference_mean, std, reference_std, unit = rng.uniform(1, 2, (5, 3, 4))
    assert mean_error(mean * unit, reference_mean * unit, reference_std * unit) == pytest.approx(
        mean_error(mean, reference_mean, reference_std)
    )
    assert std_error(std * unit, reference_std * unit) == pytest.approx(
        std_error(std, reference_std)
    )


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="must have one shape"):
        mean_error([1.0], [1.0, 2.0], [1.0, 1.0])  # Broadcasting would hide it.
    with pytest.raises(ValueError, match="`mean` must hold finite values"):
        mean_error([np.nan], [1.0], [1.0])
    with pytest.raises(
        ValueError, match="`reference_std` must be positive, and its smallest value is 0.0"
    ):
        std_error([1.0, 1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="`std` must hold finite values, and is empty"):
        std_error([], [])


def test_results_are_plain_numbers():
    assert type(mean_error([1], [2], [1])) is float and type(std_error([1], [2])) is float
