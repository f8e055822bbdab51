"""Medians over seeds are of what was observed, whatever gaps the histories have."""

from __future__ import annotations

import numpy as np
import pytest

from pflow.figures.history import column, curve, median_over_seeds


def test_blank_cells_are_missing_values():
    history = {"evaluations": ["0", "64", "128"], "kl": ["0.5", "", None]}
    np.testing.assert_array_equal(column(history, "kl"), [0.5, np.nan, np.nan])
    x, y = curve(history, "kl")
    assert (x.tolist(), y.tolist()) == ([0.0], [0.5])


def test_structured_arrays_are_histories_too():
    history = np.array([(0, 1.5), (64, 0.5)], dtype=[("evaluations", int), ("loss", float)])
    np.testing.assert_array_equal(column(history, "loss"), [1.5, 0.5])


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="'loss'; it has evaluations"):
        column({"evaluations": [0]}, "loss")


def test_the_median_and_its_spread_are_exact_at_shared_checkpoints():
    evaluations = np.array([0.0, 64.0, 5120.0])
    values = np.random.default_rng(0).lognormal(size=(5, 3))
    summary = median_over_seeds([(evaluations, row) for row in values])
    np.testing.assert_array_equal(summary.evaluations, evaluations)
    np.testing.assert_array_equal(summary.median, np.median(values, axis=0))
    np.testing.assert_array_equal(summary.low, values.min(axis=0))
    np.testing.assert_array_equal(summary.high, values.max(axis=0))
    quartiles = median_over_seeds([(evaluations, row) for row in values], "quartiles")
    np.testing.assert_allclose(quartiles.low, np.quantile(values, 0.25, axis=0))


def test_the_summary_ends_where_most_seeds_have_stopped():
    long, short = (np.array([0.0, 10.0, 100.0, 1000.0]), np.array([0.0, 10.0]))
    summary = median_over_seeds(
        [(long, np.full(4, 1.0)), (short, np.full(2, 3.0)), (short, np.full(2, 5.0))]
    )
    assert summary.evaluations.tolist() == [0.0, 10.0]
    assert summary.median.tolist() == [3.0, 3.0]


def test_a_skipped_checkpoint_is_interpolated():
    full, gap = np.array([0.0, 9.0, 99.0]), np.array([0.0, 99.0])
    summary = median_over_seeds([(full, np.array([2.0, 1.0, 0.0])), (gap, np.array([4.0, 0.0]))])
    assert summary.median[1] == pytest.approx(
        (1.0 + 2.0) / 2
    )  # 9 is half-way from 0 to 99 in log(1 + evaluations)


def test_no_observation_at_all_is_an_empty_summary():
    assert len(median_over_seeds([(np.zeros(0), np.zeros(0))]).evaluations) == 0


def test_an_unknown_spread_is_refused():
    with pytest.raises(ValueError, match="'range' or 'quartiles'"):
        median_over_seeds([], "deviation")
