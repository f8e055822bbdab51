r"""Monotone rational-quadratic splines (Durkan et al., 2019), elementwise.

    x in [x_k, x_{k+1}],  xi = (x - x_k) / w_k,  s_k = h_k / w_k
    y = y_k + h_k (s_k xi^2 + d_k xi (1 - xi)) / (s_k + (d_k + d_{k+1} - 2 s_k) xi (1 - xi))

w and h are widths and heights of the bins of [-B, B], d the slopes at their edges; 1 at -B and B,
beyond which y = x.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["rational_quadratic_spline"]

NARROWEST = 1e-3  # bin, as a part of all
# Where a density has a gap, the mass in it is the height of a bin: far less than its width.
LOWEST, FLATTEST = 1e-5, 1e-4
SLOPE_ONE = math.log(math.e - 1)  # softplus of it is 1


def rational_quadratic_spline(
    x: Float[Tensor, "batch size"],
    parameters: Float[Tensor, "batch size all"],
    bound: float,
    inverse: bool = False,
) -> tuple[Float[Tensor, "batch size"], Float[Tensor, "batch size"]]:
    """y(x) and log dy/dx; with `inverse`, x(y) and log dx/dy.

    Arguments:
        x: what is mapped.
        parameters: 3 K - 1 unbounded numbers for K bins: widths, heights, and slopes between the
            bins. Zeros are the identity.
        bound: B.
        inverse: whether x is a y, to be mapped back.

    Example:
        >>> x, parameters = torch.tensor([[-1.0, 0.5, 9.0]]), torch.ones(1, 3, 11).cumsum(2)
        >>> y, slope = rational_quadratic_spline(x, parameters, 5.0)
        >>> torch.allclose(rational_quadratic_spline(y, parameters, 5.0, inverse=True)[0], x)
        True
    """
    left, low, slopes = _edges(parameters, bound)
    inside = x.abs() < bound
    within = x.clamp(-bound, bound)
    edges = low if inverse else left
    k = (within.unsqueeze(-1) >= edges[..., 1:-1]).sum(-1, keepdim=True)
    x_k, y_k, d_k = (part.gather(-1, k).squeeze(-1) for part in (left, low, slopes))
    x_next, y_next, d_next = (part.gather(-1, k + 1).squeeze(-1) for part in (left, low, slopes))
    width, height = x_next - x_k, y_next - y_k
    s = height / width
    bend = d_k + d_next - 2 * s
    if inverse:
        rise = within - y_k
        a, b, c = height * (s - d_k) + rise * bend, height * d_k - rise * bend, -s * rise
        xi = 2 * c / (-b - (b.square() - 4 * a * c).clamp(min=0).sqrt())
        mapped = x_k + xi * width
    else:
        xi = (within - x_k) / width
        mapped = y_k + height * (s * xi.square() + d_k * xi * (1 - xi)) / (s + bend * xi * (1 - xi))
    numerator = d_next * xi.square() + 2 * s * xi * (1 - xi) + d_k * (1 - xi).square()
    log_slope = 2 * s.log() + numerator.log() - 2 * (s + bend * xi * (1 - xi)).log()
    log_slope = -log_slope if inverse else log_slope
    return torch.where(inside, mapped, x), torch.where(inside, log_slope, 0.0)


def _edges(parameters: Tensor, bound: float) -> tuple[Tensor, Tensor, Tensor]:
    """Edges of the bins, their images, and the slopes there, (batch, size, K + 1) each."""
    bins = (parameters.shape[-1] + 1) // 3
    widths, heights, slopes = parameters.split([bins, bins, bins - 1], -1)
    widths = NARROWEST + (1 - NARROWEST * bins) * widths.softmax(-1)
    heights = LOWEST + (1 - LOWEST * bins) * heights.softmax(-1)
    left, low = (F.pad(2 * bound * part.cumsum(-1), (1, 0)) - bound for part in (widths, heights))
    slopes = FLATTEST + (1 - FLATTEST) * F.softplus(slopes + SLOPE_ONE)
    return left, low, F.pad(slopes, (1, 1), value=1.0)
