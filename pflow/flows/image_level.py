"""One level of the image flow `coupling`: an affine map given the data alone, then mixings and
couplings in turns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pflow.flows.image_conditioners import ImageAffine, ImageConditioner
from pflow.flows.layers import ActNorm, Householder, Permutation, channelwise, moments
from pflow.flows.memory import Block, State, Step, reverse, run

__all__ = ["Coupling", "Level", "Reordering", "Rotation"]


class Level(nn.Module):
    """The map of one level after its Haar transform: an affine map given the data alone, then
    `depth` blocks.

    Arguments:
        shape: channels, height and width.
        depth: number of blocks.
        mixing: of the channels, for all blocks.
        conditioner: the networks of all blocks.
        actnorm: whether activations are normalised.
        clamp: bound of each log-scale.
        precision: of the conditioner, None for that of x.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        depth: int,
        mixing: Householder | Permutation,
        conditioner: ImageConditioner,
        actnorm: bool,
        clamp: float,
        precision: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.clamp, self.precision = clamp, precision
        channels = shape[0]
        self.affine = ImageAffine(channels, conditioner.data.weight.shape[2])
        self.mixing, self.conditioner = mixing, conditioner
        self.log_scale = nn.Parameter(torch.zeros(shape)) if actnorm else None
        self.shift = nn.Parameter(torch.zeros(shape)) if actnorm else None
        self.actnorm = ActNorm(depth, channels - channels // 2) if actnorm else None

    def forward(self, x: Tensor, features: Tensor, memory: str) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._entrance(features)
        x = x * log_scale.exp() + shift
        halves, log_determinant = run(self.blocks(features), x.chunk(2, 1), memory)
        return torch.cat(halves, 1), log_determinant + log_scale.flatten(1).sum(1)

    def inverse(self, z: Tensor, features: Tensor, memory: str) -> tuple[Tensor, Tensor]:
        """The inverse of `forward`, and its log-determinant."""
        halves, log_determinant = run(reverse(self.blocks(features)), z.chunk(2, 1), memory)
        log_scale, shift = self._entrance(features)
        return (torch.cat(halves, 1) - shift) * torch.exp(
            -log_scale
        ), log_determinant - log_scale.flatten(1).sum(1)

    def initialise(self, x: Tensor) -> Tensor:
        """Set the ActNorms from the x that enters, with the networks at zero, and return the
        result.
        """
        if self.actnorm is None or self.log_scale is None or self.shift is None:
            return x
        mean, deviation = moments(x)
        self.log_scale.copy_(channelwise(-deviation.log(), x).expand_as(self.log_scale))
        self.shift.copy_(channelwise(-mean / deviation, x).expand_as(self.shift))
        x = x * self.log_scale.exp() + self.shift
        halves = x.chunk(2, 1)
        for index, mixing in enumerate(self._mixings()):
            (a, b), _ = mixing.forward(halves, mixing.tensors)
            self.actnorm.initialise(index, b)
            halves = (
                a,
                b * channelwise(self.actnorm.log_scale[index].exp(), b)
                + channelwise(self.actnorm.shift[index], b),
            )
        return torch.cat(halves, 1)

    def blocks(self, features: Tensor) -> list[Block]:
        """A mixing and a coupling for each block."""
        weights = self.conditioner.weights()
        norms: list[tuple[Tensor, ...]] = [()] * len(weights)
        if self.actnorm:
            norms = list(
                zip(self.actnorm.log_scale.unbind(), self.actnorm.shift.unbind(), strict=True)
            )
        couplings = [
            Coupling(self, features, *norm, *layers)
            for norm, layers in zip(norms, weights, strict=True)
        ]
        return list(zip(self._mixings(), couplings, strict=True))

    def _mixings(self) -> list[Step]:
        if isinstance(self.mixing, Householder):
            return [Rotation(matrix) for matrix in self.mixing.matrices().unbind()]
        return [Reordering(order) for order in self.mixing.orders().unbind()]

    def _entrance(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scale and shift of the map that depends on the data alone."""
        log_scale, shift = self.affine(features)
        log_scale = self.clamp * torch.tanh(log_scale / self.clamp)
        return (
            (log_scale, shift)
            if self.log_scale is None or self.shift is None
            else (log_scale + self.log_scale, shift + self.shift)
        )


class Rotation(Step):
    """Orthogonal mixing of the channels, whose log-determinant is zero."""

    def forward(self, state: State, tensors: State) -> tuple[State, Tensor]:
        x = torch.cat(state, 1)
        mixed = (tensors[0].mT @ x.flatten(2)).view_as(x)
        return mixed.chunk(2, 1), x.new_zeros(1)

    def inverse(self, state: State, tensors: State) -> tuple[State, Tensor]:
        return self.forward(state, (tensors[0].mT,))


class Reordering(Step):
    """Permutation of the channels."""

    def forward(self, state: State, tensors: State) -> tuple[State, Tensor]:
        x = torch.cat(state, 1)
        return x.index_select(1, tensors[0]).chunk(2, 1), x.new_zeros(1)

    def inverse(self, state: State, tensors: State) -> tuple[State, Tensor]:
        return self.forward(state, (tensors[0].argsort(),))


class Coupling(Step):
    """(a, b) -> (a, b exp(s(a)) + t(a)).

    Arguments:
        level: whose conditioner it is.
        tensors: features; log-scale and shift of the ActNorm, if there is one; weights of the
            conditioner.
    """

    def __init__(self, level: Level, *tensors: Tensor) -> None:
        super().__init__(*tensors)
        self.conditioner, self.clamp, self.precision, self.normalised = (
            level.conditioner,
            level.clamp,
            level.precision,
            level.actnorm is not None,
        )

    def forward(self, state: State, tensors: State) -> tuple[State, Tensor]:
        a, b = state
        log_scale, shift = self._log_scale_and_shift(a, tensors)
        return (a, b * log_scale.exp() + shift), log_scale.flatten(1).sum(1)

    def inverse(self, state: State, tensors: State) -> tuple[State, Tensor]:
        a, b = state
        log_scale, shift = self._log_scale_and_shift(a, tensors)
        return (a, (b - shift) * torch.exp(-log_scale)), -log_scale.flatten(1).sum(1)

    def retrace(self, result: State, tensors: State) -> tuple[State, State, Tensor]:
        """With one evaluation of the network, because a is in the result."""
        a = result[0].detach().requires_grad_()
        log_scale, shift = self._log_scale_and_shift(a, tensors)
        with torch.no_grad():
            b = (result[1] - shift) * torch.exp(-log_scale)
        b.requires_grad_()
        return (a, b), (a, b * log_scale.exp() + shift), log_scale.flatten(1).sum(1)

    def retrace_inverse(self, result: State, tensors: State) -> tuple[State, State, Tensor]:
        a = result[0].detach().requires_grad_()
        log_scale, shift = self._log_scale_and_shift(a, tensors)
        with torch.no_grad():
            b = result[1] * log_scale.exp() + shift
        b.requires_grad_()
        return (a, b), (a, (b - shift) * torch.exp(-log_scale)), -log_scale.flatten(1).sum(1)

    def _log_scale_and_shift(self, a: Tensor, tensors: State) -> tuple[Tensor, Tensor]:
        features, *weights = tensors
        norm, weights = (weights[:2], weights[2:]) if self.normalised else ((), weights)
        with torch.autocast(
            a.device.type, dtype=self.precision, enabled=self.precision is not None
        ):
            result = self.conditioner(a, features, weights)
        log_scale, shift = result.to(a.dtype).chunk(2, 1)
        log_scale = self.clamp * torch.tanh(log_scale / self.clamp)
        if norm:
            log_scale, shift = log_scale + channelwise(norm[0], a), shift + channelwise(norm[1], a)
        return log_scale, shift
