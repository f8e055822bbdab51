"""The orthonormal Haar transform of images, one level: half the height and width, four times the
channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["squeeze", "unsqueeze"]


def squeeze(
    image: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch 4*channels height//2 width//2"]:
    r"""Means and differences of each 2x2 square p: for the rows and columns of pixels i, j in {0,
    1},

    .. math:: w_{kl} = \frac{1}{2} \sum_{ij} (-1)^{ki + lj} p_{ij}

    Orthonormal, so that its log-determinant is zero and white noise stays white. The channels come
    as all means (k, l = 0, 0), then all differences along the width (0, 1), along the height (1, 0)
    and of both (1, 1).

    References:
        | A theory for multiresolution signal decomposition: the wavelet representation (Mallat,
        1989), https://doi.org/10.1109/34.192463
    """
    batch, channels, height, width = image.shape
    squares = image.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return torch.einsum("bchiwj,kij->bkchw", squares, _basis(image)).flatten(1, 2)


def unsqueeze(
    coefficients: Float[Tensor, "batch coefficients height width"],
) -> Float[Tensor, "batch coefficients//4 2*height 2*width"]:
    """The inverse of `squeeze`, which is its transpose."""
    squares = torch.einsum(
        "bkchw,kij->bchiwj", coefficients.unflatten(1, (4, -1)), _basis(coefficients)
    )
    return squares.flatten(4, 5).flatten(2, 3)


def _basis(like: Tensor) -> Float[Tensor, "4 2 2"]:
    signs = like.new_tensor([[1.0, 1.0], [1.0, -1.0]])
    return torch.einsum("ki,lj->klij", signs, signs).flatten(0, 1) / 2
