"""Power spectra: waves at their wavenumber, and the variance as the integral."""

from __future__ import annotations

import numpy as np
import pytest

from pflow.diagnostics.power_spectrum import radial_power

SPACING = (2.0, 5.0)  # vertical, horizontal


@pytest.mark.parametrize("cycles", [(0.0, 0.0625), (0.06, 0.0), (0.05, -0.04)])
def test_a_wave_lies_at_its_wavenumber_whatever_its_direction(cycles):
    depth, lateral = np.meshgrid(2.0 * np.arange(40), 5.0 * np.arange(32), indexing="ij")
    wave = np.cos(2 * np.pi * (cycles[0] * depth + cycles[1] * lateral))
    k, power = radial_power(wave[None], SPACING)
    assert k[power[0].argmax()] == pytest.approx(np.hypot(*cycles), abs=(k[1] - k[0]) / 2)
    far = np.abs(k - np.hypot(*cycles)) > 2.5 * (k[1] - k[0])  # the taper widens a line
    assert power[0, far].sum() < 1e-3 * power.sum()


def test_the_integral_over_wavenumbers_is_the_variance():
    """Of fields without structure near the corners of the plane of wavenumbers, which no ring
    holds.
    """
    noise = np.random.default_rng(0).standard_normal((200, 32, 32))
    fields = np.fft.ifft2(np.fft.fft2(noise) * _low_pass(32)).real * 3.0
    k, power = radial_power(fields, (0.5, 0.5))
    area = 2 * np.pi * k * (k[1] - k[0])
    assert power.mean(0) @ area == pytest.approx(fields.var(), rel=0.03)


def test_edges_that_do_not_fit_together_are_no_fine_structure():
    ramp = np.linspace(0, 1, 32)[None, None] * np.ones((1, 32, 1))
    _, power = radial_power(ramp)
    assert power[0, -1] < 1e-6 * power[0, 0]


def test_wavenumbers_are_those_that_both_axes_resolve():
    k, power = radial_power(np.zeros((2, 8, 32)), (10.0, 5.0))
    np.testing.assert_allclose(k, np.arange(1, 5) / 80)  # up to 1 / (2 * 10 m), the coarser axis
    assert power.shape == (2, 4) and not power.any()


def test_arrays_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="four points or more"):
        radial_power(np.zeros((5, 3, 8)))


def _low_pass(points: int) -> np.ndarray:
    frequency = np.fft.fftfreq(points)
    radius = np.hypot(*np.meshgrid(frequency, frequency))
    return (radius > 0.1) & (radius < 0.35)
