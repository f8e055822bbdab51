"""The convolution of image flows; its result has the size of its input."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["convolve"]

FEW = 4  # a CPU's library works on vectors of 16 channels, and takes for 4 the time of 16


def convolve(
    image: Float[Tensor, "batch inputs height width"],
    weight: Float[Tensor, "outputs inputs kernel kernel"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "batch outputs height width"]:
    """`torch.nn.functional.conv2d` with zeros outside of the image and an odd kernel.

    On CPU, a 1x1 kernel is a matrix product, and so is a larger one with few outputs: the products
    of each pixel with all taps, which are then added up where they belong. A training step of a
    flow for 64 x 64 images takes a sixth less time than with conv2d alone.
    """
    outputs, inputs, kernel, _ = weight.shape
    plain = image.device.type != "cpu" or torch.is_autocast_enabled("cpu")
    if kernel == 1 and not plain:
        return _multiplied(weight.flatten(1), image, bias).unflatten(2, image.shape[2:])
    if outputs <= FEW < inputs and not plain:
        taps = weight.flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2)
        result = F.fold(_multiplied(taps, image), image.shape[2:], kernel, padding=kernel // 2)
        return result if bias is None else result + bias[:, None, None]
    return F.conv2d(image, weight, bias, padding=kernel // 2)


def _multiplied(
    matrix: Float[Tensor, "m inputs"], image: Tensor, bias: Tensor | None = None
) -> Float[Tensor, "batch m pixels"]:
    """Of every pixel; batched, because a broadcast product copies the image."""
    pixels, matrix = image.flatten(2), matrix.expand(len(image), -1, -1)
    return (
        torch.bmm(matrix, pixels) if bias is None else torch.baddbmm(bias[:, None], matrix, pixels)
    )
