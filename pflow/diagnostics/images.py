r"""Measures of an image posterior against the true image, and statistics of geological images.

Signal-to-noise ratios are in decibels: :math:`20 \log_{10} \|x\| / \|\hat x - x\|`, so that 20 dB
is an error of a tenth.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from pflow.diagnostics.coverage import inside_intervals

__all__ = [
    "against_truth",
    "mean_absolute_dip",
    "signal_to_noise_db",
    "trace_correlation",
    "wiener_estimate",
]

SMOOTHING = 2.5  # pixels over which the structure tensor is averaged


def signal_to_noise_db(estimate: ArrayLike, truth: ArrayLike) -> float:
    """20 log10 |truth| / |estimate - truth|; infinite for a perfect estimate.

    >>> round(signal_to_noise_db([1.1, 0.0], [1.0, 0.0]), 6)
    20.0

    Raises:
        ValueError: for different shapes.
    """
    estimate, truth = np.asarray(estimate, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if estimate.shape != truth.shape:
        raise ValueError(
            f"an estimate and the truth must have one shape, and have {estimate.shape} and"
            f" {truth.shape}"
        )
    error = np.linalg.norm(estimate - truth)
    return float(20 * np.log10(np.linalg.norm(truth) / error)) if error > 0 else np.inf


def against_truth(
    draws: ArrayLike, truth: ArrayLike, baselines: Mapping[str, ArrayLike] | None = None
) -> dict[str, float]:
    """Accuracy of posterior draws where the true image is known.

    Arguments:
        draws: of the posterior, (draws, *image), at least 20.
        truth: the true image.
        baselines: other estimates of it by name; NAME becomes `snr_NAME_db`.

    Returns:
        `snr_mean_db` of the conditional mean, `mean_std` (the average pointwise standard
        deviation), `std_error_correlation` (of the standard deviation and |conditional mean -
        truth| over pixels), and `coverage_50`, `_90`, `_95`: the share of pixels whose central
        interval of that many percent of the draws holds the truth.

    Raises:
        ValueError: for fewer than 20 draws, or different shapes.
    """
    draws, truth = np.asarray(draws, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if len(draws) < 20:
        raise ValueError(f"intervals need at least 20 draws, and there are {len(draws)}")
    mean, std = draws.mean(0), draws.std(0, ddof=1)
    metrics = {"snr_mean_db": signal_to_noise_db(mean, truth), "mean_std": float(std.mean())}
    metrics |= {
        f"snr_{name}_db": signal_to_noise_db(estimate, truth)
        for name, estimate in (baselines or {}).items()
    }
    error = np.abs(mean - truth)
    if std.std() > 0 and error.std() > 0:
        metrics["std_error_correlation"] = float(np.corrcoef(std.ravel(), error.ravel())[0, 1])
    return metrics | {
        f"coverage_{percent}": float(inside.mean())
        for percent, inside in inside_intervals(draws, truth).items()
    }


def wiener_estimate(
    back_projection: ArrayLike, spectrum: ArrayLike, share: float, noise_std: float
) -> np.ndarray:
    r"""The best linear filter of an image in which everything that was not measured looks like
    white noise.

    A random convolution that keeps the share r of its entries returns :math:`A x = r x + e` with e
    nearly white and of variance r (1 - r) times that of x. With the spectrum S of x (normalised
    like |DFT|^2 / pixels) the filter is
    :math:`r S / (r^2 S + r (1 - r) \bar S + \sigma^2)`.

    Arguments:
        back_projection: y, (..., height, width).
        spectrum: S, (height, width).
        share: r.
        noise_std: sigma.
    """
    spectrum = np.asarray(spectrum, dtype=np.float64)
    noise = share * (1 - share) * spectrum.mean() + noise_std**2
    filtered = np.fft.fft2(back_projection) * (share * spectrum / (share**2 * spectrum + noise))
    return np.fft.ifft2(filtered).real


def mean_absolute_dip(images: ArrayLike) -> float:
    """Average angle of the layers against the horizontal, in degrees, weighted by how clearly an
    image has layers there.

    The angle is that of the structure tensor, the smoothed outer product of the gradient with
    itself, whose major axis is normal to the layers (Fehmers and Hocker 2003,
    https://doi.org/10.1190/1.1598121).

    Arguments:
        images: (n, height, width), depth first.
    """
    by_depth, by_trace = np.gradient(np.asarray(images, dtype=np.float64), axis=(1, 2))
    products = (by_depth**2, by_trace**2, by_depth * by_trace)
    zz, xx, zx = (gaussian_filter(product, (0, SMOOTHING, SMOOTHING)) for product in products)
    angle, clarity = np.abs(np.arctan2(2 * zx, zz - xx)) / 2, np.hypot(zz - xx, 2 * zx)
    return float(np.degrees((angle * clarity).sum() / clarity.sum()))


def trace_correlation(images: ArrayLike) -> float:
    """Average correlation of neighbouring traces (columns).

    Arguments:
        images: (n, height, width), depth first.
    """
    traces = np.asarray(images, dtype=np.float64)
    traces = traces - traces.mean(1, keepdims=True)
    traces = traces / np.linalg.norm(traces, axis=1, keepdims=True)
    return float((traces[:, :, 1:] * traces[:, :, :-1]).sum(1).mean())
