"""Figures of one posterior of a field: draws beside the prior's, coverage by pixel, and spectra."""

from __future__ import annotations

import numpy as np
import pytest

from pflow.figures.draws_strip import draws_strip
from pflow.figures.pixel_coverage import pixel_coverage
from pflow.figures.spectra import power_spectra

RANDOM = np.random.default_rng(0)
SHAPE = (6, 8)


def images(figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def test_the_strip_shows_prior_posterior_and_differences_on_their_scales():
    x, prior = RANDOM.standard_normal((30, *SHAPE)), 3 * RANDOM.standard_normal((50, *SHAPE))
    figure = draws_strip(x, prior=prior, label="speed", unit="km/s")
    shown = np.stack(images(figure))
    np.testing.assert_array_equal(shown[:4], prior[:4])
    np.testing.assert_array_equal(shown[4:8], x[:4])
    np.testing.assert_allclose(shown[8:], x[:4] - x.mean(0))
    limits = [axes.images[0].get_clim() for axes in figure.axes if axes.images]
    assert len(set(limits[:8])) == len(set(limits[8:])) == 1 and limits[0] != limits[8]
    rows = [axes.get_ylabel() for axes in figure.axes if axes.images and axes.get_ylabel()]
    assert rows == ["prior", "posterior", "posterior \N{MINUS SIGN} mean"]
    names = {axes.get_ylabel() for axes in figure.axes if not axes.images}
    assert names >= {"speed (km/s)", "difference from the mean (km/s)"}


def test_few_draws_without_a_prior_are_shown_too():
    assert len(images(draws_strip(RANDOM.standard_normal((2, *SHAPE))))) == 4


def test_bars_and_maps_of_coverage_say_which_pixels_are_inside():
    order = np.arange(48).reshape(SHAPE)
    inside = {50: order < 12, 90: order < 36, 95: order < 42}  # 25, 75 and 88 % of the pixels
    z = RANDOM.standard_normal(SHAPE)
    figure = pixel_coverage(z, inside, expected={90: (0.8, 0.97)}, axis_names=("x (m)", "z (m)"))
    deviation, interval = images(figure)[:2]
    np.testing.assert_array_equal(deviation, z)
    assert np.bincount(interval.ravel()).tolist() == [12, 24, 6, 6]
    shares = figure.axes[2]
    assert [bar.get_width() for bar in shares.patches] == pytest.approx([25, 75, 87.5])
    assert [text.get_text() for text in shares.texts] == ["25 %", "75 %", "88 %"]
    lines = [line.get_xdata().tolist() for line in shares.lines]
    assert lines == [[50, 50], [90, 90], [80, 97], [95, 95]]
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("x (m)", "z (m)")


def test_bands_of_spectra_hold_nine_draws_of_ten():
    k, power = np.arange(1.0, 6.0), np.exp(RANDOM.standard_normal((1000, 5)))
    figure = power_spectra(
        k, power, np.ones(5), truth=np.full(5, 2.0), length_unit="m", unit="km/s"
    )
    (axes,) = figure.axes
    (band,) = axes.collections
    ends = band.get_paths()[0].vertices
    low, high = np.quantile(power, [0.05, 0.95], axis=0)
    assert set(np.round([*low, *high], 9)) <= set(np.round(ends[:, 1], 9))
    assert [line.get_label() for line in axes.lines] == ["posterior mean", "true field"]
    assert axes.get_xlabel() == "wavenumber (cycles per m)"
    assert axes.get_ylabel() == "power ((km/s)² m²)"
