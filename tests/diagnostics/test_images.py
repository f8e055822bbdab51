"""Metrics of images: on draws whose quality is known."""

from __future__ import annotations

import numpy as np
import pytest

from pflow.diagnostics.images import (
    against_truth,
    mean_absolute_dip,
    signal_to_noise_db,
    trace_correlation,
    wiener_estimate,
)


def test_ten_decibels_are_a_tenth_of_the_energy():
    truth = np.random.default_rng(0).standard_normal((1, 16, 16))
    assert signal_to_noise_db(truth * (1 + np.sqrt(0.1)), truth) == pytest.approx(10)
    assert signal_to_noise_db(truth, truth) == np.inf
    with pytest.raises(ValueError, match="one shape"):
        signal_to_noise_db(truth[0], truth)


def test_a_posterior_that_holds_is_calibrated_and_one_that_is_too_sure_is_not():
    random = np.random.default_rng(1)
    spread = np.linspace(0.1, 1.0, 40)[None, :, None] * np.ones((1, 40, 40))
    truth, centre = random.standard_normal((2, 1, 40, 40)) * [[[[1.0]]], [[[0.0]]]]
    centre = truth + spread * random.standard_normal((1, 40, 40))
    draws = centre + spread * random.standard_normal((2000, 1, 40, 40))
    right = against_truth(draws, truth, {"data": centre})
    for level in (50, 90, 95):
        assert right[f"coverage_{level}"] == pytest.approx(level / 100, abs=0.04)
    assert right["std_error_correlation"] > 0.4
    assert right["snr_data_db"] == pytest.approx(right["snr_mean_db"], abs=0.1)
    assert right["mean_std"] == pytest.approx(spread.mean(), rel=0.02)
    wrong = against_truth(centre + 0.3 * (draws - centre), truth)
    assert wrong["coverage_90"] < 0.5
    with pytest.raises(ValueError, match="at least 20"):
        against_truth(draws[:10], truth)


def test_the_wiener_filter_is_the_best_of_its_kind():
    """For a stationary Gaussian seen through white interference it is the conditional mean: no
    scaling of it is better.
    """
    random = np.random.default_rng(2)
    k = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None])
    spectrum, share, noise = np.exp(-200 * k**2) * 50 + 1e-3, 0.5, 0.2
    truth = np.fft.ifft2(np.sqrt(spectrum) * np.fft.fft2(random.standard_normal((20, 64, 64)))).real
    interference = np.sqrt(
        share * (1 - share) * spectrum.mean() + noise**2
    ) * random.standard_normal(truth.shape)
    estimate = wiener_estimate(share * truth + interference, spectrum, share, noise)
    errors = {scale: float(((scale * estimate - truth) ** 2).mean()) for scale in (0.8, 1.0, 1.2)}
    assert min(errors, key=errors.get) == 1.0
    assert (
        signal_to_noise_db(estimate, truth)
        > signal_to_noise_db((share * truth + interference) / share, truth) + 5
    )


def test_the_dip_of_a_plane_wave_is_its_angle():
    depth, lateral = np.mgrid[0:64, 0:64]
    for degrees in (0, 5, 20, -30):
        wave = np.sin(2 * np.pi * (depth - np.tan(np.radians(degrees)) * lateral) / 12)
        assert mean_absolute_dip(wave[None]) == pytest.approx(
            abs(degrees), abs=1.5
        )  # differences of neighbours are not quite derivatives
    assert trace_correlation(np.sin(depth / 3.0)[None]) == pytest.approx(1)
