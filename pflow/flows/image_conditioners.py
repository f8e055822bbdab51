"""Networks of image flows: features of the data, and conditioners of the couplings.

The data's features are computed once, for all blocks and all x. A conditioner adds them to its
features of x after a 1x1 convolution, which for one observation (batch 1) costs one image, however
many x there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from pflow.flows.conditioners import Activation
from pflow.flows.convolution import convolve
from pflow.flows.wavelet import squeeze

__all__ = ["DataPyramid", "ImageAffine", "ImageConditioner", "StackedConvolution"]

# Standard deviations of a beyond which a conditioner saturates. Without it, an x outside the
# training data grows from block to block of the inverse: 4 % of the samples of a flow for 32x32
# images, trained for 40 seconds, then exceeded 8 standard deviations.
BOUND = 3.0


class StackedConvolution(nn.Module):
    r"""Convolutions of the blocks k = 1 ... depth, each of the size of its input (zeros outside of
    the image).

    Arguments:
        depth: number of blocks.
        inputs, outputs: channels.
        kernel: odd width of the kernel.
        bias: whether there is one.
        fan_in: of the layer that this is a part of, by default that of this one; 0 starts all
            entries at zero.

    Weights start uniform within sqrt(6 / fan_in), biases within 1 / sqrt(fan_in), as those of
    `conditioners.StackedLinear`.
    """

    def __init__(
        self,
        depth: int,
        inputs: int,
        outputs: int,
        kernel: int,
        bias: bool = True,
        fan_in: int | None = None,
    ) -> None:
        super().__init__()
        fan_in = inputs * kernel**2 if fan_in is None else fan_in
        bound = fan_in**-0.5 if fan_in else 0.0
        gain = 6**0.5
        self.weight = nn.Parameter(
            torch.empty(depth, outputs, inputs, kernel, kernel).uniform_(
                -gain * bound, gain * bound
            )
        )
        self.bias = (
            nn.Parameter(torch.empty(depth, outputs).uniform_(-bound, bound)) if bias else None
        )


class ImageConditioner(nn.Module):
    r"""Residual convolutional networks of all `depth` blocks, of one half a of x and features f of
    the data:

    .. math::
        h_1 = \sigma(A * c \tanh(a / c) + B f + b_1), \quad h_2 = h_1 + \sigma(M * h_1 + b_2), \quad
        \mathrm{result} = L * h_2 + b_3

    with c = `BOUND`. The last layer starts at zero.

    Arguments:
        depth: number of blocks.
        inputs: channels of a.
        features: channels of f.
        outputs: channels of the result.
        hidden: channels of h.
        kernel: width of A and L.
        inner_kernel: width of M.
        activation: elementwise function sigma.
    """

    def __init__(
        self,
        depth: int,
        inputs: int,
        features: int,
        outputs: int,
        hidden: int,
        kernel: int,
        inner_kernel: int,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.activation = activation
        fan_in = inputs * kernel**2 + features
        self.first = StackedConvolution(depth, inputs, hidden, kernel, bias=False, fan_in=fan_in)
        self.data = StackedConvolution(depth, features, hidden, 1, fan_in=fan_in)
        self.inner = StackedConvolution(depth, hidden, hidden, inner_kernel)
        self.last = StackedConvolution(depth, hidden, outputs, kernel, fan_in=0)

    def weights(self) -> list[tuple[Tensor, ...]]:
        """Of each block, what `__call__` takes."""
        layers = (
            self.first.weight,
            self.data.weight,
            self.data.bias,
            self.inner.weight,
            self.inner.bias,
            self.last.weight,
            self.last.bias,
        )
        return list(zip(*(layer.unbind() for layer in layers), strict=True))

    def forward(self, a: Tensor, features: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """The result for one block, from a (batch, inputs, ...) and features of batch 1 or that of
        a.
        """
        first, data, data_bias, inner, inner_bias, last, last_bias = weights
        a = BOUND * torch.tanh(a / BOUND)
        hidden = self.activation(convolve(a, first) + convolve(features, data, data_bias))
        hidden = hidden + self.activation(convolve(hidden, inner, inner_bias))
        return convolve(hidden, last, last_bias)


class DataPyramid(nn.Module):
    """Features of the data image at the resolution of each level, coarse context included (a
    U-shaped network).

    Down: the Haar transform of the level above, and a residual block. Up: the coarser level's
    features, doubled in size by repetition, are added after a convolution.

    Arguments:
        channels: of the data image.
        hidden: channels of the features.
        levels: number of resolutions, the finest half that of the data.
        activation: elementwise function.
    """

    def __init__(self, channels: int, hidden: int, levels: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.enter = nn.ModuleList(
            nn.Conv2d(
                4 * (hidden if level else channels), hidden, 3 if level == 0 else 1, padding="same"
            )
            for level in range(levels)
        )
        self.down = nn.ModuleList(ResidualConvolutions(hidden, activation) for _ in range(levels))
        self.rise = nn.ModuleList(nn.Conv2d(hidden, hidden, 1) for _ in range(levels - 1))
        self.up = nn.ModuleList(ResidualConvolutions(hidden, activation) for _ in range(levels - 1))

    def forward(
        self, y: Float[Tensor, "batch channels height width"]
    ) -> list[Float[Tensor, "batch hidden ..."]]:
        """Features of each level, finest first."""
        features, current = [], y
        for enter, down in zip(self.enter, self.down, strict=True):
            current = down(enter(squeeze(current)))
            features.append(current)
        for level in reversed(range(len(self.up))):
            coarse = F.interpolate(
                self.rise[level](features[level + 1]), scale_factor=2, mode="nearest"
            )
            features[level] = self.up[level](features[level] + coarse)
        return [self.activation(feature) for feature in features]


class ResidualConvolutions(nn.Module):
    r""":math:`h + W_2 * \sigma(W_1 * \sigma(h))`, with 3x3 kernels."""

    def __init__(self, channels: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.first = nn.Conv2d(channels, channels, 3, padding="same")
        self.second = nn.Conv2d(channels, channels, 3, padding="same")

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.second(self.activation(self.first(self.activation(hidden))))


class ImageAffine(nn.Module):
    r"""Convolution f \mapsto (s, t) of the data's features, which starts at zero.

    Arguments:
        channels: of s and of t.
        features: channels of f.
    """

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.last = nn.Conv2d(features, 2 * channels, 3, padding="same")
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """s and t, (batch, channels, height, width) each."""
        return self.last(features).chunk(2, 1)
