"""How long to train, and at which step size, where steps cost no evaluation.

The step size stays until the ELBO of a block of steps is no longer clearly above that of the block
before, and then falls to 0 along a cosine, which averages out the noise of the gradients. So the
number of steps follows from the problem, not from a setting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["MOST_STEPS", "Schedule"]

BLOCK = 40  # steps
SMALL_GAIN = 0.01  # nats for each parameter; a block that gains less is the last at full step size
FALL = 1.0  # steps in which the step size falls, for each one before
MOST_STEPS = 1200


class Schedule:
    """The steps of the module.

    Arguments:
        parameters: D.
        most: the largest number of steps.

    Attributes:
        step: steps taken.
        blocks: ELBO of each block at full step size, a mean, in nats.
        full: steps at full step size; infinite until it is known.
    """

    def __init__(self, parameters: int, most: int = MOST_STEPS) -> None:
        self.parameters, self.most = parameters, most
        self.step, self.full = 0, math.inf
        self.blocks: list[float] = []
        self._sum = 0.0

    def record(self, elbo: float) -> None:
        """One more step, whose draws had this ELBO before it."""
        self.step += 1
        if self.step > self.full:
            return
        self._sum += elbo
        if self.step % BLOCK == 0:
            self.blocks.append(self._sum / BLOCK)
            self._sum = 0.0
        settled = self.step % BLOCK == 0 and self.gain < SMALL_GAIN * self.parameters
        if settled or self.step >= round(self.most / (1 + FALL)):
            self.full = self.step

    @property
    def gain(self) -> float:
        """ELBO of the last block beyond the one before, in nats; infinite before there are two."""
        if len(self.blocks) < 2:
            return math.inf
        return self.blocks[-1] - self.blocks[-2]

    @property
    def reason(self) -> str:
        """Why the step size fell, in words."""
        steps = f"the flow took {self.step} steps"
        if self.gain < SMALL_GAIN * self.parameters:
            return f"{steps}, after {BLOCK} of them had gained {self.gain:.2g} nats"
        return f"{steps}, the most that are allowed"

    @property
    def end(self) -> float:
        """Steps in all; infinite until that is known."""
        if self.full == math.inf:
            return math.inf
        return min(self.most, self.full + math.ceil(FALL * self.full))

    @property
    def falls(self) -> bool:
        """Whether the step size falls from here on."""
        return self.step >= self.full

    @property
    def finished(self) -> bool:
        """Whether there is no further step."""
        return self.step >= self.end

    @property
    def factor(self) -> float:
        """Of the step size at the next step."""
        if not self.falls:
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (self.step - self.full) / (self.end - self.full)))

    @property
    def fraction(self) -> float:
        """Part of the steps that is done, a guess while their number is open."""
        if self.full < math.inf:
            return min(1.0, self.step / self.end)
        return self.step / (self.step + 3 * BLOCK)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"numbers": [self.step, self.most, self.full, self._sum], "blocks": self.blocks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.step, self.most, self.full, self._sum = state["numbers"]
        self.blocks = list(state["blocks"])
