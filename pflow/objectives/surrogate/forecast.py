r"""What an error of the model of F does to its posterior.

An error e of the predicted data, with a mean square of e^2 noise variances a datum and no preferred
direction, moves the mode by (I + J^T J)^{-1} J^T e. With P = (I + J^T J)^{-1} the posterior
covariance in prior standard deviations, the mean square of this shift, in posterior variances and
for each of the D parameters, is

    shift^2 = e^2 trace(J P J^T) / D = e^2 (1 - trace(P) / D)

More evaluations remove this error: they will change the posterior by about as much, and not more.
"""

from __future__ import annotations

import math

import torch

from pflow.objectives.surrogate.gaussian import PosteriorGaussian

__all__ = ["expected_shift"]


def expected_shift(frame: PosteriorGaussian, error: float) -> float:
    """Root mean square over parameters of the shift, in posterior standard deviations.

    Arguments:
        frame: Gaussian of the model's posterior, in prior standard deviations.
        error: mean square of the model's error at new points, in noise variances.
    """
    size = len(frame.mean)
    identity = torch.eye(size, dtype=frame.factor.dtype)
    root = torch.linalg.solve_triangular(frame.factor, identity, upper=False)
    informed = 1 - float(root.square().sum()) / size
    return math.sqrt(error * max(0.0, informed))
