"""The best state of a run, determined from the draws that were evaluated for training.

A fresh draw of q comes with log p~ - log q, whose mean is the ELBO = log evidence - KL(q ||
posterior), before any training on it. A state whose ELBO is lower than the best one by more than
noise explains is worse. Otherwise the newer state is kept, because it was trained on more points.
The best ELBO is stored separately, so that many small losses cannot add up undetected.

The log weights of a run that diverges spread over so many nats that the standard error of their
mean hides the loss. A test of medians detects divergence under such heavy tails: it uses the
confidence interval between two order statistics, which holds for every distribution, and applies
only where the mean is lower as well.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from pflow.flows.base import Flow

__all__ = ["BestState", "weights_of"]

# Nats of the ELBO: below, heavy tails make the standard error of a few draws too small for a
# decision
SLACK = 0.1
STANDARD_ERRORS = 3.0


class BestState:
    """The newest weights that are not clearly worse than the best.

    Arguments:
        window: draws that are tested together.

    Attributes:
        weights: the weights; None before the first test.
        elbo: of the best window, and its standard error.
        lowest_median: lower end of the confidence interval of its median.
        newest_elbo: of the newest window.
    """

    def __init__(self, window: int = 1) -> None:
        self.window = window
        self.weights: dict[str, Tensor] | None = None
        self.elbo = [-math.inf, 0.0]
        self.lowest_median = -math.inf
        self.newest_elbo = math.nan
        self.good = True  # whether the newest window was
        self._waiting = torch.empty(0)

    def see(self, flow: Flow, log_weight: Tensor) -> bool:
        """Record log p~ - log q at valid draws of `flow`; False if they complete a window that is
        clearly worse than the best.
        """
        self._waiting = torch.cat([self._waiting, log_weight.detach().cpu().to(self._waiting)])
        return self._judge(flow) if len(self._waiting) >= max(2, self.window) else True

    def settle(self, flow: Flow, worse: bool = False) -> bool:
        """At the end: test the incomplete window, and restore the best weights in `flow` if the
        newest draws were clearly worse.

        Arguments:
            flow: receives the best weights.
            worse: whether they are already known to be.

        Returns:
            Whether the flow was restored.
        """
        if not worse and len(self._waiting) >= max(2, self.window // 4):
            self._judge(flow)
        if self.weights is None or not (worse or not self.good):
            return False
        flow.load_state_dict(self.weights)
        return True

    def forget(self) -> None:
        """Discard the record of earlier draws."""
        self.weights, self.elbo, self.lowest_median = None, [-math.inf, 0.0], -math.inf

    def _judge(self, flow: Flow) -> bool:
        draws, self._waiting = self._waiting, self._waiting[:0]
        mean, error = float(draws.mean()), float(draws.std() / math.sqrt(len(draws)))
        half = min(0.5, STANDARD_ERRORS * 0.5 / math.sqrt(len(draws)))
        lowest_median, highest_median = draws.quantile(
            torch.tensor([0.5 - half, 0.5 + half])
        ).tolist()
        best, best_error = self.elbo
        lower = not mean > best - max(SLACK, STANDARD_ERRORS * math.hypot(error, best_error))
        lower = lower or (mean < best - SLACK and highest_median < self.lowest_median)
        self.newest_elbo, self.good = mean, self.weights is None or not lower
        if self.good:
            self.weights = weights_of(flow)
            if mean > best:
                self.elbo, self.lowest_median = [mean, error], lowest_median
        return self.good

    def state_dict(self) -> dict[str, Any]:
        """Everything but the length of the window."""
        return {name: copy.copy(value) for name, value in vars(self).items() if name != "window"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        vars(self).update({name: copy.copy(value) for name, value in state.items()})


def weights_of(flow: Flow) -> dict[str, Tensor]:
    """A copy of the flow's weights and buffers."""
    return {name: tensor.detach().clone() for name, tensor in flow.state_dict().items()}
