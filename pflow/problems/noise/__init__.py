r"""Noise: how the data y scatter around the prediction F(x).

With the residual r = y - F(x), every model of noise has four members:

    sample           draws of r
    log_likelihood   log p(r), normalised
    whiten           w(r), which is N(0, I) exactly if r is such noise; missing data give 0
    size             m, the number of data that count, so that |w(r)|^2 / m has mean 1

Gaussian noise is :math:`r = S w` with :math:`w \sim N(0, I)`, so that :math:`w(r) = S^{-1} r` and
:math:`\log p(r) = -\tfrac{1}{2} |S^{-1} r|^2 - \log \det S - \tfrac{m}{2} \log 2 \pi`.

**Complex data** are stored and modelled as real numbers with a last axis of size 2, (real,
imaginary): what `torch.view_as_real` gives. Flows, stores and norms need no change, and a complex
datum counts as two.

**Missing data** have a fixed place in y and hold 0 there, in simulations, observations and
predictions alike.
"""

from __future__ import annotations

from pflow.problems.noise.base import Noise, standard_normal
from pflow.problems.noise.covariance import CovarianceNoise, LowRankNoise, real_covariance
from pflow.problems.noise.independent import ComplexNoise, IndependentNoise
from pflow.problems.noise.masked import MaskedNoise
from pflow.problems.noise.student import StudentTNoise

__all__ = [
    "ComplexNoise",
    "CovarianceNoise",
    "IndependentNoise",
    "LowRankNoise",
    "MaskedNoise",
    "Noise",
    "StudentTNoise",
    "real_covariance",
    "standard_normal",
]
