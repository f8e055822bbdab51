"""How a flow follows a fixed model of the score through the operator-free steps of one round.

The distance to the model, a mean square of whitened scores on fresh draws, is tested every few
steps. The round ends at a tenth of the model's error, because more steps would fit errors. If the
distance grows instead, the closest weights are restored and the step size is divided by three.
"""

from __future__ import annotations

import copy
import math
from typing import Any

from torch import Tensor

from pflow.flows.base import Flow
from pflow.objectives.best_state import weights_of

__all__ = ["CHECK", "CUT", "InnerLoop", "grown"]

WARMUP, CHECK = 10, 10  # steps
FOLLOW = 0.1  # distance to the model at which a round ends, in units of the model's own error
# Mean squared whitened score distance to the model below which a round ends as well: 5e-5 nats per
# unknown
CLOSE = 1e-4
GROWTH = 2.0  # of the distance to the model, from noise alone
CUT, CUTS = 3.0, 6


class InnerLoop:
    """Steps, step size and closest weights of a round.

    Arguments:
        opening: distance to the model at the start.
        weights: of the flow at the start.
        scale: factor of the optimiser's step size at the end of the round before; this round begins
            with up to nine times that.

    Attributes:
        step: of this round.
        finished: whether the round is over.
        weights: the closest to the model in this round.
    """

    def __init__(self, opening: float, weights: dict[str, Tensor], scale: float) -> None:
        self.step, self.cuts, self.finished = 0, 0, False
        self.closest, self.weights = opening, weights
        self.scale = min(1.0, CUT**2 * scale)
        self.distances: list[float] = []

    @property
    def is_due(self) -> bool:
        """Whether the distance is to be tested now."""
        return bool(self.step) and self.step % CHECK == 0 and not self.finished

    def note(self, distance: float) -> None:
        """Count a step, and the distance to the model at its draws."""
        self.step += 1
        self.distances.append(distance)

    def check(self, flow: Flow, error: float) -> None:
        """End the round, store the closest weights, or restore them with a third of the step size.

        Arguments:
            flow: as the round left it.
            error: of the model, in the unit of the distances.
        """
        distance = sum(self.distances[-CHECK:]) / CHECK
        if distance < max(FOLLOW * error, CLOSE):
            self.weights, self.finished = weights_of(flow), True
        elif grown(distance, self.closest):
            flow.load_state_dict(self.weights)
            self.scale /= CUT
            self.cuts += 1
            self.finished = self.cuts >= CUTS
        else:
            self.weights = weights_of(flow)
            self.closest = min(self.closest, distance)

    def learning_rate_factor(self, steps: int) -> float:
        """Warm-up and cosine of a round of `steps`, times the cuts."""
        fraction = min(1.0, self.step / steps)
        return (
            self.scale
            * min(1.0, (self.step + 1) / WARMUP)
            * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fraction)))
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        return {name: copy.copy(value) for name, value in vars(self).items()}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> InnerLoop:
        """The loop that `state` was taken of."""
        self = cls.__new__(cls)
        vars(self).update({name: copy.copy(value) for name, value in state.items()})
        return self


def grown(distance: float, before: float) -> bool:
    """Whether a distance to the model is larger than noise explains."""
    return not distance < GROWTH * before
