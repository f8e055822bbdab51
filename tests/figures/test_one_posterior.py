"""Figures of one posterior: bands that cover, regions that hold their mass, panels that show what
they say.
"""

from __future__ import annotations

import numpy as np
import pytest

from pflow.diagnostics.each_parameter import contraction
from pflow.figures.against_prior import marginals_against_prior
from pflow.figures.maps import posterior_maps
from pflow.figures.one_parameter import window
from pflow.figures.pairs import mass_levels, pair_plot
from pflow.figures.prediction import compare, prediction_and_data

RANDOM = np.random.default_rng(0)


def test_contraction_of_a_gaussian_is_known():
    prior = 2.0 * RANDOM.standard_normal((4000, 3))
    draws = prior[::-1] * [1.0, 0.5, 0.1]
    np.testing.assert_allclose(contraction(draws, prior), [0, 0.5, 0.9], atol=1e-12)
    assert np.isnan(contraction(draws, np.ones_like(prior))).all()


def test_bands_cover_nine_data_of_ten_and_residuals_are_standard_normal():
    y = RANDOM.standard_normal(1000)
    found = compare(y, RANDOM.standard_normal((400, 1000)))
    assert found.covered == pytest.approx(0.9, abs=0.03)
    low, high = found.bands[50]
    assert np.mean((y > low) & (y < high)) == pytest.approx(0.5, abs=0.04)
    assert found.residual.std() == pytest.approx(1, abs=0.05)
    assert compare(y, 0.3 * RANDOM.standard_normal((400, 1000))).covered < 0.5


def test_missing_data_are_left_out():
    predicted = RANDOM.standard_normal((50, 6))
    predicted[:, [1, 4]] = 0.0  # noise adds nothing to a datum that was not measured
    found = compare(np.array([0.1, 0.0, np.nan, 0.2, 0.0, 9.0]), predicted)
    assert found.kept.tolist() == [True, False, False, True, False, True]
    assert found.covered == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="must have shape"):
        compare(np.zeros(5), predicted)


@pytest.mark.parametrize("shape", [(2,), (40,), (8, 6), (1, 1200), (5, 4, 6)])
def test_predictions_of_every_shape_are_drawn(shape):
    axes = prediction_and_data(
        RANDOM.standard_normal(shape), RANDOM.standard_normal((30, *shape)), unit="ms"
    ).axes
    assert "in their 90 % band" in axes[0].get_title(loc="left")
    assert "(ms)" in axes[0].get_ylabel()
    assert bool(axes[1].images) == (len(shape) == 2 and 1 not in shape)


def test_regions_hold_their_share_of_the_mass():
    density = RANDOM.random((30, 30)) ** 3
    for mass, level in zip((0.9, 0.5), mass_levels(density, (0.9, 0.5)), strict=True):
        held = density[density >= level].sum() / density.sum()
        assert mass <= held < mass + 0.02


def test_a_pair_plot_shows_each_pair_once_and_the_truth():
    x = RANDOM.standard_normal((500, 3))
    x[:, 1] = -x[:, 0]
    figure = pair_plot(x, ["a", "b", "c"], x_true=[0.5, -0.5, 7.0])
    assert len(figure.axes) == 9
    pair = figure.axes[3]  # b against a
    assert pair.lines[0].get_xydata().tolist() == [[0.5, -0.5]]
    assert figure.axes[1].texts[0].get_text() == "correlation \N{MINUS SIGN}1.00"
    assert figure.axes[8].get_xlim()[1] >= 7.0  # the truth is not cut off


def test_intervals_are_drawn_at_the_quantiles():
    x = RANDOM.standard_normal((2000, 1))
    (axes,) = marginals_against_prior(x, ["depth (km)"], prior=3 * x).axes
    drawn = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2]
    expected = [np.quantile(x, ends) for ends in ((0.05, 0.95), (0.25, 0.75))]
    np.testing.assert_allclose(drawn, expected)
    assert axes.get_xlabel() == "depth (km)"


def test_a_wide_prior_does_not_flatten_the_posterior():
    draws, prior = RANDOM.standard_normal(1000), 100 * RANDOM.standard_normal(1000)
    low, high = window(draws, prior)
    assert np.ptp(draws) < high - low < 4 * np.ptp(draws)
    assert window(np.full(10, 2.0)) == (1.5, 2.5)


def test_maps_need_neither_prior_nor_truth():
    draws = RANDOM.standard_normal((20, 6, 5))
    titles = [axes.get_title(loc="left") for axes in posterior_maps(draws).axes if axes.images]
    assert titles == ["Mean", "Standard deviation", "Draw 1", "Draw 2"]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_legend_lies_within_the_figure(count: int):
    x = RANDOM.standard_normal((100, count))
    names = [f"parameter {i}" for i in range(count)]
    for draw in (marginals_against_prior, pair_plot):
        figure = draw(x, names, prior=2 * x, x_true=x[0])
        figure.draw_without_rendering()
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, draw.__name__
