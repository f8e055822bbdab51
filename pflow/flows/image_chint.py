"""`chint` for images: conditional HINT with 3x3 convolutions, after one Haar transform, as the seed
paper uses it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pflow.errors import PflowError
from pflow.flows.base import Flow, require_at_least_one, standard_normal_log_density
from pflow.flows.chint import require_power_of_two
from pflow.flows.hint import HintLane, ImageResidualBlocks, Weights, couple, gates, uncouple
from pflow.flows.image_coupling import require_image_shapes
from pflow.flows.layers import channelwise, moments
from pflow.flows.memory import State, Step, require_memory_mode, reverse, run
from pflow.flows.wavelet import squeeze, unsqueeze

__all__ = ["ImageConditionalHint"]

# Images whose moments set the ActNorms: their activations at full width are in memory together
FIRST_BATCH = 64


class ImageConditionalHint(Flow):
    r"""Conditional HINT over pairs of images; the equations are those of `chint.ConditionalHint`,
    at the Haar coefficients of x and y.

    Arguments:
        model_shape: shape of x, (channels, height, width): a power of two of channels, even height
            and width.
        data_shape: shape of y, that of x.
        depth: number of blocks.
        hidden: width of the residual blocks.
        memory: what is kept for the backward pass, see `memory`: "store", "checkpoint" or "invert".
            The sampling direction keeps the data lane's y_p of every block in all of them: one
            image each where all x share one observation.

    References:
        | Preconditioned training of normalizing flows for variational inference in inverse problems
        (Siahkoohi et al., 2021)
        | https://arxiv.org/abs/2101.03709

    Example:
        >>> flow = ImageConditionalHint((1, 8, 8), (1, 8, 8), depth=2, hidden=8)
        >>> x, y = torch.randn(5, 1, 8, 8), torch.randn(5, 1, 8, 8)
        >>> z, log_determinant = flow(x, y)
        >>> z.shape, log_determinant.shape
        (torch.Size([5, 1, 8, 8]), torch.Size([5]))
    """

    def __init__(
        self,
        model_shape: Sequence[int],
        data_shape: Sequence[int],
        depth: int = 8,
        hidden: int = 64,
        memory: str = "store",
    ) -> None:
        super().__init__(model_shape, data_shape)
        require_at_least_one(depth=depth, hidden=hidden)
        require_memory_mode(memory)
        require_power_of_two(self.model_shape, at_least=1)
        require_image_shapes(self.model_shape, self.data_shape, levels=1)
        if self.data_shape != self.model_shape:
            raise PflowError(
                f"`data_shape` (={self.data_shape}) of a chint flow must be `model_shape`"
                f" (={self.model_shape}), because its lanes are alike: map y to the model's shape,"
                " or use the flow `coupling`"
            )
        channels = 4 * self.model_shape[0]
        self.depth, self.memory = depth, memory
        self.model_lane = HintLane(depth, channels, hidden, ImageResidualBlocks)
        self.data_lane = HintLane(depth, channels, hidden, ImageResidualBlocks)
        self.conditional = ImageResidualBlocks(depth, channels, hidden)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        (z, _), log_determinant = self._run_both(x, y, joint=False)
        return unsqueeze(z), log_determinant

    def inverse(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self._check(z, y)
        blocks = []
        y = squeeze(y)
        for block, (data, model, conditional) in enumerate(self._weights()):
            y_p = _normalise_and_rotate(y, data)
            blocks.append((ModelBlock(y_p, *model, *conditional),))
            if block + 1 < self.depth:
                (y,), _ = run([(LaneCoupling(*data[3:]),)], (y_p,), self.memory)
        (x,), log_determinant = run(reverse(blocks), (squeeze(z),), self.memory)
        return unsqueeze(x), log_determinant

    def log_prob_pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """log q(x given y) + log q(y), the joint density of both lanes."""
        (z_x, z_y), log_determinant = self._run_both(x, y, joint=True)
        return standard_normal_log_density(z_x) + standard_normal_log_density(z_y) + log_determinant

    @torch.no_grad()
    def initialise(self, x: Tensor, y: Tensor) -> None:
        """Set every ActNorm of both lanes from the first 64 pairs, front to back. Does nothing on
        an initialised flow.
        """
        if self.initialised:
            return
        self._check_pairs(x, y)
        x, y = squeeze(x[:FIRST_BATCH]), squeeze(y[:FIRST_BATCH])
        for block in range(self.depth):
            for lane, image in ((self.data_lane, y), (self.model_lane, x)):
                mean, deviation = moments(image)
                lane.scale[block], lane.shift[block] = 1 / deviation, -mean / deviation
            data, model, conditional = self._weights()[block]
            (x, y), _ = PairBlock(False, *data, *model, *conditional).forward(
                (x, y), (*data, *model, *conditional)
            )
        self.initialised.fill_(True)

    @torch.no_grad()
    def initialise_inverse(
        self,
        n: int,
        y: Tensor,
        generator: torch.Generator | None = None,
        prior: Tensor | None = None,
    ) -> None:
        """Set every ActNorm on the sampling direction from at most 64 of n latents (z_x, z_y), back
        to front, as the paper does from random weights. `y` and `prior` play no part: there the
        data lane is initialised from latents as well.
        """
        if self.initialised:
            return
        if n < 2:
            raise PflowError(
                f"`initialise_inverse` needs the moments of at least 2 draws, and got n={n}: give a"
                " larger number"
            )
        n = min(n, FIRST_BATCH)
        x, y = squeeze(self.draw_latent(n, generator)), squeeze(self.draw_latent(n, generator))
        for block in reversed(range(self.depth)):
            for lane in (self.data_lane, self.model_lane):
                lane.scale[block], lane.shift[block] = 1.0, 0.0
            data, model, conditional = self._weights()[block]
            (x, y), _ = PairBlock(False, *data, *model, *conditional).inverse(
                (x, y), (*data, *model, *conditional)
            )
            normalised = []
            for lane, image in ((self.model_lane, x), (self.data_lane, y)):
                mean, deviation = moments(image)
                lane.scale[block], lane.shift[block] = deviation, mean
                normalised.append(
                    (image - channelwise(mean, image)) / channelwise(deviation, image)
                )
            x, y = normalised
        self.initialised.fill_(True)

    def _run_both(self, x: Tensor, y: Tensor, joint: bool) -> tuple[State, Tensor]:
        self._check(x, y)
        blocks = [
            (PairBlock(joint, *data, *model, *conditional),)
            for data, model, conditional in self._weights()
        ]
        return run(blocks, (squeeze(x), squeeze(y)), self.memory)

    def _weights(self) -> list[tuple[Weights, Weights, Weights]]:
        """Of each block, the tensors of the data lane, of the model lane and of the gates between
        them.
        """
        lanes = []
        for lane in (self.data_lane, self.model_lane):
            levels = [[tensor for level in block for tensor in level] for block in lane.weights()]
            affine = (lane.scale.unbind(), lane.shift.unbind(), lane.rotation.matrices().unbind())
            lanes.append([(*parts, *own) for *parts, own in zip(*affine, levels, strict=True)])
        return list(zip(*lanes, self.conditional.unbind(), strict=True))


class LaneCoupling(Step):
    """H of one lane. State: one image. Tensors: those of its residual blocks, five a level."""

    def forward(self, state: State, tensors: State) -> tuple[State, Tensor]:
        result, log_determinant = _coupled(state[0], tensors)
        return (result,), log_determinant

    def inverse(self, state: State, tensors: State) -> tuple[State, Tensor]:
        result, log_determinant = _uncoupled(state[0], tensors)
        return (result,), -log_determinant


class ModelBlock(Step):
    """A block of the model lane. State: x. Tensors: y_p; scale, shift, rotation and couplings of
    the lane; the five of the gates.
    """

    def forward(self, state: State, tensors: State) -> tuple[State, Tensor]:
        y_p, *lane = tensors[:-5]
        x, log_determinant = _coupled(_normalise_and_rotate(state[0], lane), lane[3:])
        log_gate, gate, shift = gates(y_p, tensors[-5:])
        return (x * gate + shift,), log_determinant + log_gate.flatten(1).sum(1) + _log_scale(
            lane[0], x
        )

    def inverse(self, state: State, tensors: State) -> tuple[State, Tensor]:
        y_p, *lane = tensors[:-5]
        log_gate, gate, shift = gates(y_p, tensors[-5:])
        x, log_determinant = _uncoupled((state[0] - shift) / gate, lane[3:])
        return (_rotate_and_restore(x, lane),), -log_determinant - log_gate.flatten(1).sum(
            1
        ) - _log_scale(lane[0], x)


class PairBlock(Step):
    """A block of both lanes. State: x and y. Tensors: data lane, model lane, gates. The
    log-determinant of the data lane counts if `joint`.
    """

    def __init__(self, joint: bool, *tensors: Tensor) -> None:
        super().__init__(*tensors)
        self.joint, self.lane_size = joint, (len(tensors) - 5) // 2

    def forward(self, state: State, tensors: State) -> tuple[State, Tensor]:
        x, y = state
        data, model = tensors[: self.lane_size], tensors[self.lane_size :]
        y_p = _normalise_and_rotate(y, data)
        (x,), log_determinant = ModelBlock().forward((x,), (y_p, *model))
        y, data_log_determinant = _coupled(y_p, data[3:])
        if self.joint:
            log_determinant = log_determinant + data_log_determinant + _log_scale(data[0], y)
        return (x, y), log_determinant

    def inverse(self, state: State, tensors: State) -> tuple[State, Tensor]:
        x, y = state
        data, model = tensors[: self.lane_size], tensors[self.lane_size :]
        y_p, data_log_determinant = _uncoupled(y, data[3:])
        (x,), log_determinant = ModelBlock().inverse((x,), (y_p, *model))
        y = _rotate_and_restore(y_p, data)
        if self.joint:
            log_determinant = log_determinant - data_log_determinant - _log_scale(data[0], y)
        return (x, y), log_determinant


def _coupled(image: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    terms: list[Tensor] = []
    result = couple(image, _levels(tensors), terms)
    return result, _total(terms)


def _uncoupled(image: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    terms: list[Tensor] = []
    result = uncouple(image, _levels(tensors), terms)
    return result, _total(terms)


def _levels(tensors: Sequence[Tensor]) -> list[Weights]:
    return [tuple(tensors[first : first + 5]) for first in range(0, len(tensors), 5)]


def _normalise_and_rotate(image: Tensor, lane: Sequence[Tensor]) -> Tensor:
    scale, shift, rotation = lane[:3]
    normalised = image * channelwise(scale, image) + channelwise(shift, image)
    return (rotation.mT @ normalised.flatten(2)).view_as(image)


def _rotate_and_restore(image: Tensor, lane: Sequence[Tensor]) -> Tensor:
    scale, shift, rotation = lane[:3]
    normalised = (rotation @ image.flatten(2)).view_as(image)
    return (normalised - channelwise(shift, image)) / channelwise(scale, image)


def _log_scale(scale: Tensor, image: Tensor) -> Tensor:
    """Log-determinant of an ActNorm, (1,)."""
    return scale.abs().log().sum().view(1) * image[0, 0].numel()


def _total(terms: Sequence[Tensor]) -> Tensor:
    first, *others = (term.flatten(1).sum(1) for term in terms)
    return sum(others, first)
