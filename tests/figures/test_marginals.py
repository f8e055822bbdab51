"""Marginals: densities for a few parameters, moments against the reference for many."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import StepPatch

from pflow.figures.marginals import marginals, moments_against_reference
from pflow.figures.palette import method_colour


def draws(count: int, parameters: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, parameters)) * np.arange(
        1, parameters + 1
    )


def test_each_parameter_has_a_panel_with_every_method_over_the_reference():
    posteriors = {"amortized": draws(800, 3, 0) + 1.0, "preconditioned": draws(800, 3, 1)}
    figure = marginals(
        posteriors, draws(2000, 3, 2), parameter_names=["a (m)", "b", "c"], x_true=[0.1, 0.2, 0.3]
    )
    assert [axes.get_xlabel() for axes in figure.axes] == ["a (m)", "b", "c"]
    for index, axes in enumerate(figure.axes):
        steps = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
        assert len(steps) == 3
        for name, patch in zip(posteriors, steps[1:], strict=True):
            values, edges, _ = patch.get_data()
            inside = np.mean(
                (posteriors[name][:, index] >= edges[0]) & (posteriors[name][:, index] <= edges[-1])
            )
            assert np.sum(values * np.diff(edges)) == pytest.approx(inside)
            assert to_hex(patch.get_edgecolor()).upper() == method_colour(name, list(posteriors))
        assert axes.get_lines()[0].get_xdata()[0] == [0.1, 0.2, 0.3][index]


def test_many_parameters_become_means_and_standard_deviations():
    posteriors = {"amortized": draws(500, 64, 0) + 2.0, "preconditioned": draws(500, 64, 1)}
    reference = draws(900, 64, 2)
    figure = marginals(posteriors, reference)
    assert len(figure.axes) == 2
    for axes, moment in zip(figure.axes, (np.mean, np.std), strict=True):
        clouds = [line for line in axes.get_lines() if line.get_marker() == "o"]
        for name, cloud in zip(posteriors, clouds, strict=True):
            np.testing.assert_allclose(cloud.get_xdata(), moment(reference, axis=0))
            np.testing.assert_allclose(cloud.get_ydata(), moment(posteriors[name], axis=0))
        assert axes.get_xlim() == axes.get_ylim()
        assert "exact" in axes.get_xlabel()


def test_units_and_the_name_of_the_reference_are_on_the_axes():
    figure = moments_against_reference(
        {"scratch": draws(50, 12, 0)}, draws(50, 12, 1), unit="km/s", reference_name="NUTS"
    )
    assert figure.axes[0].get_xlabel() == "mean, NUTS (km/s)"


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="same number of parameters"):
        marginals({"scratch": draws(10, 2, 0)}, draws(10, 3, 0))
    with pytest.raises(ValueError, match="each of the 2 parameters; it names 1"):
        marginals({"scratch": draws(10, 2, 0)}, parameter_names=["x"])
    with pytest.raises(ValueError, match="at least one method"):
        marginals({})
