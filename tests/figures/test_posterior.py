"""The paper's figure: the right draws in the right panels, and regions that hold the mass they
claim.
"""

from __future__ import annotations

import numpy as np
import pytest
import xarray
from matplotlib.colors import to_hex
from matplotlib.path import Path as Outline

from pflow.figures.highest_density import MASSES, cubic_spline, highest_density_regions
from pflow.figures.palette import method_colour
from pflow.figures.plane import limits
from pflow.figures.posterior import posterior_2d

METHODS = ["amortized", "preconditioned", "scratch"]


def banana(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws with normalised log density: x1 ~ N(0, 1), x2 ~ N(x1^2, 0.5^2)."""
    noise = np.random.default_rng(seed).normal(size=(count, 2))
    x = np.stack([noise[:, 0], noise[:, 0] ** 2 + 0.5 * noise[:, 1]], axis=1)
    return x, -0.5 * np.sum(noise**2, axis=1) - np.log(2 * np.pi * 0.5)


@pytest.fixture(scope="module")
def arguments() -> dict:
    exact, log_density = banana(1500, 0)
    return {
        "posteriors": {name: banana(400, seed)[0] for seed, name in enumerate(METHODS, start=1)},
        "prior": banana(500, 5)[0] * 2,
        "low_fidelity_data": banana(500, 6)[0],
        "high_fidelity_data": banana(500, 7)[0] * 1.5,
        "exact": exact,
        "exact_log_density": log_density,
        "x_true": (0.5, 0.25),
        "y_observed": (0.4, 0.3),
        "parameter_names": ("depth (km)", "speed (km/s)"),
        "data_names": ("time (s)", "amplitude"),
    }


def titles(figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_one_panel_for_the_prior_each_data_set_each_method_and_the_exact_posterior(arguments: dict):
    figure = posterior_2d(**arguments)
    expected = [
        "Prior samples",
        "Low-fidelity data",
        "High-fidelity data",
        *(f"Posterior: {name}" for name in METHODS),
        "Posterior: exact",
    ]
    assert titles(figure) == expected
    for axes in figure.axes:
        names = (
            arguments["data_names"]
            if "data" in axes.get_title(loc="left")
            else arguments["parameter_names"]
        )
        assert (axes.get_xlabel(), axes.get_ylabel()) == names


def test_each_panel_holds_its_own_draws_in_its_own_colour(arguments: dict):
    figure = posterior_2d(**arguments)
    for name, axes in zip(METHODS, figure.axes[3:6], strict=True):
        cloud = axes.collections[-1]
        np.testing.assert_array_equal(cloud.get_offsets(), arguments["posteriors"][name])
        assert to_hex(cloud.get_facecolor()[0]).upper() == method_colour(name, METHODS)


def test_axes_are_shared_among_posteriors_and_among_data(arguments: dict):
    axes = posterior_2d(**arguments).axes
    assert len({(panel.get_xlim(), panel.get_ylim()) for panel in axes[3:]}) == 1
    assert len({(panel.get_xlim(), panel.get_ylim()) for panel in axes[1:3]}) == 1
    frame = axes[0].patches[0]
    assert (frame.get_x(), frame.get_y()) == (axes[3].get_xlim()[0], axes[3].get_ylim()[0])


def test_the_true_model_and_the_observation_are_marked_where_they_belong(arguments: dict):
    for place, axes in enumerate(posterior_2d(**arguments).axes):
        marker, point = ("D", (0.4, 0.3)) if place in (1, 2) else ("P", (0.5, 0.25))
        [marked] = axes.get_lines()
        assert (marked.get_marker(), marked.get_xdata()[0], marked.get_ydata()[0]) == (
            marker,
            *point,
        )


def test_regions_hold_the_mass_they_claim(arguments: dict):
    """Fresh draws fall inside the outline of each region as often as its mass says."""
    axes = posterior_2d(**arguments).axes[5]
    lines = next(
        collection for collection in axes.collections if not collection.get_facecolor().size
    )
    fresh, _ = banana(4000, 11)
    assert len(lines.get_paths()) == len(MASSES)
    for mass, path in zip(MASSES, lines.get_paths(), strict=True):
        inside = Outline(path.to_polygons()[0]).contains_points(fresh).mean()
        assert inside == pytest.approx(mass, abs=0.03)


def test_a_method_that_is_far_off_does_not_shrink_the_picture_but_is_reported(arguments: dict):
    far = {"scratch": arguments["posteriors"]["scratch"] + 100.0}
    figure = posterior_2d(**arguments | {"posteriors": far})
    low, high = figure.axes[3].get_xlim()
    assert high - low < 2 * np.ptp(arguments["exact"][:, 0])
    assert "100 % outside" in next(text.get_text() for text in figure.axes[3].texts)


def test_remarks_stand_in_the_panel_of_their_method(arguments: dict):
    figure = posterior_2d(**arguments, remarks={"preconditioned": "KL 0.006 nats"})
    assert [axes.texts[0].get_text() if axes.texts else "" for axes in figure.axes[3:]] == [
        "",
        "KL 0.006 nats",
        "",
        "",
    ]


def test_what_is_unknown_is_left_out(arguments: dict):
    few = {key: arguments[key] for key in ("prior", "low_fidelity_data")} | {
        "posteriors": {"amortized": arguments["posteriors"]["amortized"]}
    }
    figure = posterior_2d(**few)
    assert titles(figure) == ["Prior samples", "Low-fidelity data", "Posterior: amortized"]
    assert figure.legends == []


def test_xarray_with_chains_is_welcome():
    draws = xarray.DataArray(
        np.zeros((2, 50, 2)) + np.arange(50)[:, None], dims=("chain", "draw", "x_dim")
    )
    figure = posterior_2d({"preconditioned": draws}, prior=draws)
    assert [panel.collections[0].get_offsets().shape for panel in figure.axes] == [(100, 2)] * 2


def test_wrong_shapes_are_named(arguments: dict):
    with pytest.raises(
        ValueError, match=r"draws of 'mine' must have shape \(\.\.\., 2\).*\(5, 3\)"
    ):
        posterior_2d({"mine": np.zeros((5, 3))}, prior=arguments["prior"])
    with pytest.raises(ValueError, match="one value a draw: 3 for 1500 draws"):
        highest_density_regions(arguments["exact"], [0.0, 0.0, 0.0])


def test_limits_always_hold_single_points():
    (low, high), _ = limits([np.array([[50.0, 0.0]]), banana(100, 0)[0]], around=banana(100, 0)[0])
    assert low < -1 and high > 50


def test_the_spline_passes_through_its_points_and_reproduces_quadratics():
    points = np.random.default_rng(0).uniform(size=(60, 2))
    values = np.sin(7 * points[:, 0]) + points[:, 1] ** 3
    spline, distance = cubic_spline(points, values, points)
    np.testing.assert_allclose(spline, values, atol=1e-9)
    np.testing.assert_array_equal(distance, 0.0)

    def quadratic(x: np.ndarray) -> np.ndarray:
        return 1 - 2 * x[:, 0] + 3 * x[:, 0] * x[:, 1] - x[:, 1] ** 2

    away = np.array([[2.0, -1.0], [0.5, 0.5]])
    spline, distance = cubic_spline(points, quadratic(points), away)
    np.testing.assert_allclose(spline, quadratic(away), atol=1e-8)
    assert distance[0] == pytest.approx(np.linalg.norm(points - away[0], axis=1).min())
