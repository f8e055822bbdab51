"""`coupling` for images: wavelet levels of orthogonal mixings and affine couplings with
convolutions conditioned on the data image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from pflow.errors import PflowError
from pflow.flows.base import Flow, require_at_least_one
from pflow.flows.conditioners import activation_named
from pflow.flows.image_conditioners import DataPyramid, ImageConditioner
from pflow.flows.image_level import Level
from pflow.flows.layers import Householder, Permutation, moments
from pflow.flows.memory import require_memory_mode
from pflow.flows.wavelet import squeeze, unsqueeze

__all__ = ["ImageCouplingFlow", "require_image_shapes"]

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
# Adam moves every weight by about its step size, however large the gradient is. Features that are
# free at every pixel have further to go than the weights of convolutions.
LOCAL_SCALE = 10.0


def require_image_shapes(
    model_shape: Sequence[int], data_shape: Sequence[int], levels: int
) -> None:
    """Raise PflowError for sizes that `levels` halvings do not divide, and for data that are no
    image of the model's size.
    """
    height, width = model_shape[1:]
    for name, size in (("height", height), ("width", width)):
        if size % 2**levels:
            raise PflowError(
                f"the {name} of `model_shape` (={tuple(model_shape)}) must be divisible by"
                f" {2**levels}, because each of the `levels` (={levels}) of a flow halves it: pad"
                f" the images to {-(-size // 2**levels) * 2**levels}, or set fewer levels"
            )
    if len(data_shape) != 3 or tuple(data_shape[1:]) != (height, width):
        raise PflowError(
            f"`data_shape` (={tuple(data_shape)}) of a flow for images must be (channels, {height},"
            f" {width}), as large as `model_shape` (={tuple(model_shape)}): let the problem's"
            " `summary` map the data to an image, for example by the adjoint of the operator"
        )


class ImageCouplingFlow(Flow):
    r"""Conditional affine coupling flow for images.

    With f_l features of the data at the resolution of level l (`DataPyramid`), to which 10 p_l is
    added, each of the `levels` l = 1, 2, ... is

    .. math::
        x &\leftarrow W x \\ x &\leftarrow x \odot \exp(\lambda_0 + s_0(f_l)) + \beta_0 + t_0(f_l)
        \\ (a, b) &= P_k x, \quad b' = b \exp(\lambda_k + s_k(a, f_l)) + \beta_k + t_k(a, f_l),
        \quad x
        \leftarrow (a, b') \qquad k = 1 \ldots \mathrm{depth}

    W is the orthonormal Haar transform and P an orthogonal 1x1 mixing of the channels. In the
    second line :math:`\lambda_0` and
    :math:`\beta_0` are free at every pixel, so that training for one observation can move any of
    them. Every s is clamped softly, :math:`c \tanh(s / c)`, and every s and t starts at zero.

    p_l (`local_features`) is free at every pixel as well. It is zero, and not trained until a flow
    is trained for one observation: it lets the couplings differ from pixel to pixel, which they
    otherwise do only as far as the data do. A flow that is not `conditional` has no other features:
    until then it does the same at every pixel.

    With `multiscale` the second half of the channels leaves after each level but the last. Since W
    is orthonormal, its inverse joins the channels of all levels: z is an image of the size of x.

    Arguments:
        model_shape: shape of x, (channels, height, width), with height and width divisible by
            2^levels.
        data_shape: shape of y, (channels, height, width) with the same height and width; normalised
            by the moments of the batch of `initialise`.
        depth: blocks in each level.
        hidden: channels of the networks.
        levels: number of Haar transforms.
        multiscale: whether half of the channels leaves after a level.
        mixing: P, "orthogonal" (Householder reflections, at most 16) or "permutation" (drawn from
            `seed`).
        actnorm: whether there are :math:`\lambda` and :math:`\beta`.
        kernel: width of the networks' first and last kernels.
        inner_kernel: width of the kernel between them.
        activation: "silu" or "relu".
        clamp: c, the bound of each log-scale.
        memory: what is kept for the backward pass, see `memory`: "store", "checkpoint" or "invert".
        precision: of the networks in the couplings, "float32" or "bfloat16"; the couplings
            themselves and log-determinants are in the precision of x always.
        conditional: whether the flow sees y; if not, y must have its shape and is ignored.
        seed: of the permutations.

    References:
        | Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma and Dhariwal, 2018),
        https://arxiv.org/abs/1807.03039
        | Guided image generation with conditional invertible neural networks (Ardizzone et al.,
        2019)
        | https://arxiv.org/abs/1907.02392

    Example:
        >>> flow = ImageCouplingFlow((1, 8, 8), (1, 8, 8), depth=2, hidden=8)
        >>> x, y = torch.randn(5, 1, 8, 8), torch.randn(5, 1, 8, 8)
        >>> z, log_determinant = flow(x, y)
        >>> z.shape, log_determinant.shape
        (torch.Size([5, 1, 8, 8]), torch.Size([5]))
    """

    data_shift: Tensor
    data_scale: Tensor

    def __init__(
        self,
        model_shape: Sequence[int],
        data_shape: Sequence[int],
        depth: int = 4,
        hidden: int = 32,
        levels: int = 3,
        multiscale: bool = False,
        mixing: str = "orthogonal",
        actnorm: bool = True,
        kernel: int = 3,
        inner_kernel: int = 1,
        activation: str = "silu",
        clamp: float = 1.0,
        memory: str = "store",
        precision: str = "float32",
        conditional: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(model_shape, data_shape)
        require_at_least_one(
            depth=depth, hidden=hidden, levels=levels, kernel=kernel, inner_kernel=inner_kernel
        )
        require_image_shapes(self.model_shape, self.data_shape, levels)
        require_memory_mode(memory)
        if mixing not in ("permutation", "orthogonal"):
            raise PflowError(
                f"`mixing` (='{mixing}') of a flow must be permutation or orthogonal: choose one of"
                " these"
            )
        if not clamp > 0:
            raise PflowError(
                f"`clamp` (={clamp}) of a flow bounds its log-scales and must be positive: 1.0 is a"
                " good value"
            )
        if kernel % 2 == 0 or inner_kernel % 2 == 0:
            raise PflowError(
                f"`kernel` (={kernel}) and `inner_kernel` (={inner_kernel}) of a flow must be odd:"
                " 3 is a good value"
            )
        if precision not in PRECISIONS:
            raise PflowError(
                f"`precision` (='{precision}') of a flow must be one of {', '.join(PRECISIONS)}:"
                " choose one of these"
            )
        self.multiscale, self.memory = multiscale, memory
        function = activation_named(activation)
        channels, height, width = self.model_shape
        self.register_buffer("data_shift", torch.zeros(self.data_shape[0], 1, 1))
        self.register_buffer("data_scale", torch.ones(self.data_shape[0], 1, 1))
        self.pyramid = (
            DataPyramid(self.data_shape[0], hidden, levels, function) if conditional else None
        )
        self.levels = nn.ModuleList()
        self.local_features = nn.ParameterList()
        for level in range(levels):
            channels, height, width = 4 * channels, height // 2, width // 2
            rotation = (
                Householder(depth, channels, min(channels, 16))
                if mixing == "orthogonal"
                else Permutation(depth, channels, seed + level)
            )
            conditioner = ImageConditioner(
                depth, channels // 2, hidden, channels, hidden, kernel, inner_kernel, function
            )
            self.levels.append(
                Level(
                    (channels, height, width),
                    depth,
                    rotation,
                    conditioner,
                    actnorm,
                    clamp,
                    PRECISIONS[precision],
                )
            )
            nothing = torch.zeros(1, hidden, height, width)
            self.local_features.append(nn.Parameter(nothing, requires_grad=False))
            channels = channels // 2 if multiscale else channels

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self._check(x, y)
        total: Tensor | float = 0.0
        left = []
        for level, features in zip(self.levels, self._features(y), strict=True):
            x, log_determinant = level(squeeze(x), features, self.memory)
            total = total + log_determinant
            if self.multiscale and level is not self.levels[-1]:
                x, leaving = x.chunk(2, 1)
                left.append(leaving)
        return self._joined(x, left), total

    def inverse(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self._check(z, y)
        total: Tensor | float = 0.0
        x, left = self._parted(z)
        for level, features in reversed(list(zip(self.levels, self._features(y), strict=True))):
            if self.multiscale and level is not self.levels[-1]:
                x = torch.cat((x, left.pop()), 1)
            x, log_determinant = level.inverse(x, features, self.memory)
            total = total + log_determinant
            x = unsqueeze(x)
        return x, total

    @torch.no_grad()
    def initialise(self, x: Tensor, y: Tensor) -> None:
        """Normalise y by its moments and, through ActNorm, what enters each level and the b of each
        block. The networks in between start at zero and have no effect. Does nothing on an
        initialised flow.
        """
        if self.initialised:
            return
        self._check_pairs(x, y)
        mean, deviation = moments(y)
        self.data_shift.copy_(mean.view(-1, 1, 1))
        self.data_scale.copy_(1 / deviation.view(-1, 1, 1))
        for level in self.levels:
            x = level.initialise(squeeze(x))
            if self.multiscale:
                x = x.chunk(2, 1)[0]
        self.initialised.fill_(True)

    def _features(self, y: Tensor) -> list[Tensor]:
        """Of each level, those of the data and those free at every pixel."""
        local = [LOCAL_SCALE * features for features in self.local_features]
        if self.pyramid is None:
            return local
        of_data = self._data_features(self.pyramid, y)
        return [torch.add(*pair) for pair in zip(of_data, local, strict=True)]

    def _data_features(self, pyramid: DataPyramid, y: Tensor) -> list[Tensor]:
        """Of each level. Computed again for the backward pass, from the same weights, unless
        `memory` is "store".
        """
        weights: dict[str, Tensor] = dict(pyramid.named_parameters())
        if self.memory == "store" or not any(weight.requires_grad for weight in weights.values()):
            return pyramid(self._normalised(y))
        features_of = partial(functional_call, pyramid, weights)
        return checkpoint(
            features_of, self._normalised(y), use_reentrant=False, preserve_rng_state=False
        )

    def _normalised(self, y: Tensor) -> Tensor:
        return (y - self.data_shift) * self.data_scale

    def _joined(self, x: Tensor, left: list[Tensor]) -> Tensor:
        """One image z of the last level's result and the channels that left before."""
        for level in reversed(range(len(self.levels))):
            x = unsqueeze(torch.cat((x, left[level]), 1) if level < len(left) else x)
        return x

    def _parted(self, z: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The inverse of `_joined`."""
        left = []
        for level in range(len(self.levels)):
            z = squeeze(z)
            if self.multiscale and level < len(self.levels) - 1:
                z, leaving = z.chunk(2, 1)
                left.append(leaving)
        return z, left
