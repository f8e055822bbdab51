r"""A Gaussian of the latent that minimises KL(q || p^), by natural gradients.

q is a frozen flow T^{-1}(z; y) whose latent is N(m, A A^T), z = m + A w. At draws of it the
regression of the residuals g_w(w) + w on w gives a step of the natural gradient (`natural_step`;
g_w the score of p^ seen in w). Draws of the rounds before say something as well; they are seen in
the newest w. Steps end when one gains less ELBO than matters. A step that lost some is taken back
and taken again at half its size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pflow.flows.base import standard_normal_log_density
from pflow.flows.latent import LatentGaussian
from pflow.objectives.linear.latent_posterior import LatentPosterior
from pflow.objectives.linear.natural_step import natural_step
from pflow.objectives.linear.posterior import LinearPosterior

__all__ = ["LatentSteps"]

DRAWS, KEPT = 768, 3  # in a round, and rounds whose draws are kept
LEAST_DRAWS, DRAWN_ELEMENTS = 64, 2**22  # in a round of many parameters: so many elements of z
STEP, SMALLEST_STEP = 0.6, 0.1  # rho at first, and where it is no longer halved
MOST_ROUNDS = 5
SMALL_GAIN = 0.003  # nats for each parameter; a step that gains less is the last one


class LatentSteps:
    """The rounds of the module on one flow.

    Attributes:
        step: rho.
        elbo: under p^, of the latent before each step, in nats.
        score_error: at the draws of the newest round, before its step: mean of |g_w + w|^2 / D.
        finished: why there is no further step; empty while there is.
    """

    def __init__(self) -> None:
        self.points: list[tuple[Tensor, Tensor]] = []  # z and the score of p^ seen in z
        self.elbo: list[float] = []
        self.score_error = math.nan
        self.before: dict[str, Tensor] = {}  # the latent before the last step
        self.finished, self.step = "", STEP

    @torch.no_grad()
    def advance(
        self,
        flow: LatentGaussian,
        summary: Tensor,
        posterior: LinearPosterior,
        generator: torch.Generator,
    ) -> None:
        """Draw, judge the last step, and take another one."""
        affordable = max(LEAST_DRAWS, DRAWN_ELEMENTS // len(flow.closed.mean))
        w = flow.draw_latent(min(DRAWS, affordable), generator)
        z, stretched = flow.closed(w.flatten(1))
        value, score = LatentPosterior(flow, summary, posterior).at(z)
        log_weight = value + stretched - standard_normal_log_density(w)
        valid = score.isfinite().all(1) & log_weight.isfinite()
        lost = float(valid.double().mean()) < 0.5
        log_weight = log_weight[valid].double()
        elbo = -math.inf if lost else float(log_weight.mean())
        error = 0.0 if lost else float(log_weight.std() / math.sqrt(len(log_weight)))
        if self.elbo and elbo < self.elbo[-1] - 2 * error:
            flow.closed.load_state_dict(self.before)
            self.step /= 2
            if self.step < SMALLEST_STEP:
                self.finished = "the last step of the latent was taken back, because it lost ELBO"
            else:
                natural_step(flow.closed, *self._residuals(flow), self.step)
            return
        gain = elbo - self.elbo[-1] if self.elbo else math.inf
        self.elbo.append(elbo)
        self.points = [*self.points, (z[valid], score[valid])][-KEPT:]
        w, r = self._residuals(flow)
        newest = int(valid.sum())
        self.score_error = float(r[-newest:].square().mean()) if newest else math.nan
        if lost:
            self.finished = "the density is not finite at most draws"
        elif gain < SMALL_GAIN * w.shape[1]:
            self.finished = f"the last step of the latent gained {gain:.2g} nats"
        elif len(self.elbo) > MOST_ROUNDS:
            self.finished = (
                f"the latent took {MOST_ROUNDS} steps, of which the last gained {gain:.2g} nats"
            )
        else:
            self.before = {name: part.clone() for name, part in flow.closed.state_dict().items()}
            natural_step(flow.closed, w, r, self.step)

    @property
    def gain(self) -> float:
        """ELBO of the newest latent that was kept beyond the first, in nats; 0 where the density is
        not finite.
        """
        gain = self.elbo[-1] - self.elbo[0]
        return gain if math.isfinite(gain) else 0.0

    def _residuals(self, flow: LatentGaussian) -> tuple[Tensor, Tensor]:
        """w and r of all draws kept, (n, D) each."""
        z, score = (torch.cat(part) for part in zip(*self.points, strict=True))
        w = flow.closed.undo(z)[0]
        return w, flow.closed.pull(score) + w

    def state_dict(self) -> dict[str, Any]:
        """Draws, and how the steps went."""
        return {
            "points": [part for pair in self.points for part in pair],
            "course": [*self.elbo, self.score_error, self.step],
            "before": dict(self.before),
            "finished": self.finished,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        points = state["points"]
        self.points = list(zip(points[::2], points[1::2], strict=True))
        *self.elbo, self.score_error, self.step = state["course"]
        self.before, self.finished = dict(state["before"]), state["finished"]
