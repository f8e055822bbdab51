r"""The power spectrum of fields on a grid, averaged over directions.

A field f on height x width points at distances (dy, dx), less its average, is multiplied by a Hann
taper w, so that its edges, which do not fit together, do not look like fine structure:

.. math:: P(k) = \frac{\Delta x \Delta y}{\sum w^2} |\operatorname{DFT}(w f)|^2

is a density over the plane of wavenumbers: its integral there is the variance of f. It is averaged
over rings :math:`|k| \in [k_j - \delta / 2, k_j + \delta / 2)`, where delta is the smallest
wavenumber that the shorter side of the grid resolves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["radial_power"]


def radial_power(
    fields: ArrayLike, spacing: tuple[float, float] = (1.0, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Wavenumbers k in cycles per unit of length, (rings,), up to the highest that both axes
    resolve, and P there in squared units of the field and of length, (fields, rings).

    White noise has the same power at all wavenumbers, its variance times the area of a cell (the
    lowest ones lose a part with the average):

    >>> noise = np.random.default_rng(0).standard_normal((200, 16, 16))
    >>> k, power = radial_power(noise, (5.0, 5.0))
    >>> k.round(4)
    array([0.0125, 0.025 , 0.0375, 0.05  , 0.0625, 0.075 , 0.0875, 0.1   ])
    >>> round(float(power[:, 1:].mean()))
    25

    Arguments:
        fields: (fields, height, width), four points or more along each axis.
        spacing: of the points, (vertical, horizontal).

    Raises:
        ValueError: for another shape.
    """
    f = np.asarray(fields, dtype=np.float64)
    if f.ndim != 3 or min(f.shape[1:]) < 4:
        raise ValueError(
            "`fields` must have shape (fields, height, width) with four points or more along each"
            f" axis, and has {f.shape}"
        )
    taper = np.outer(*(_hann(points) for points in f.shape[1:]))
    centred = f - (taper * f).sum((1, 2), keepdims=True) / taper.sum()
    transformed = np.abs(np.fft.fft2(taper * centred)) ** 2
    power = spacing[0] * spacing[1] / (taper**2).sum() * transformed
    frequencies = [np.fft.fftfreq(n, d) for n, d in zip(f.shape[1:], spacing, strict=True)]
    radius = np.hypot(*np.meshgrid(*frequencies, indexing="ij"))
    width = max(1 / (n * d) for n, d in zip(f.shape[1:], spacing, strict=True))
    rings = max(1, int(0.5 / max(spacing) / width + 1e-9))
    ring = np.floor(radius / width + 0.5 + 1e-9).astype(int)
    averages = [power[:, ring == j].mean(1) for j in range(1, rings + 1)]
    return width * np.arange(1, rings + 1), np.stack(averages, axis=1)


def _hann(points: int) -> np.ndarray:
    """The taper along an axis, above zero at every point."""
    return np.sin(np.pi * (np.arange(points) + 0.5) / points) ** 2
