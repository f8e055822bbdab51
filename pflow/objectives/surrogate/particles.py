"""Draws of a model's posterior: many short Hamiltonian trajectories side by side, in coordinates
where the posterior is nearly N(0, I).

They cost no evaluation of F. The chains persist from round to round: each new model of F moves them
on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Density", "Frame", "Particles"]

ACCEPT = 0.8
LONGEST = 1.6  # length of a trajectory, a quarter of the period of a standard normal


class Density(Protocol):
    """A density that is not normalised."""

    def value_and_score(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Its logarithm, (batch,), and the gradient, (batch, D); -inf and 0 where undefined."""


class Frame(Protocol):
    """Coordinates u of v, affine, in which the density is nearly N(0, I) (`PosteriorGaussian`)."""

    def place(self, u: Tensor) -> Tensor:
        """v."""

    def whiten(self, v: Tensor) -> Tensor:
        """u."""

    def pull(self, score: Tensor) -> Tensor:
        """A gradient by v as one by u."""


class Particles:
    """K points v that follow p^.

    Arguments:
        points: where they begin, (K, D).
        step: the first step size, times D^{-1/4}: in N(0, I) 1.5 is accepted four times in five.

    Attributes:
        acceptance: of the last move, a mean.
    """

    def __init__(self, points: Tensor, step: float = 0.5) -> None:
        self.points = points
        self.values = torch.zeros(len(points), dtype=points.dtype)
        self.step = step * points.shape[1] ** -0.25
        self.acceptance = math.nan

    def move(
        self,
        model: Density,
        frame: Frame,
        transitions: int,
        generator: torch.Generator,
    ) -> None:
        """`transitions` of each chain; the step size follows the acceptance."""
        u = frame.whiten(self.points)
        value, score = model.value_and_score(self.points)
        score = frame.pull(score)
        for _ in range(transitions):
            momentum = torch.randn(u.shape, generator=generator, dtype=u.dtype)
            jitter = 0.7 + 0.6 * float(torch.rand((), generator=generator))
            steps = max(1, min(24, round(LONGEST * jitter / self.step)))
            new, new_score, p = u, score, momentum
            new_value = value
            for _ in range(steps):
                p = p + 0.5 * self.step * new_score
                new = new + self.step * p
                new_value, gradient = model.value_and_score(frame.place(new))
                new_score = frame.pull(gradient)
                p = p + 0.5 * self.step * new_score
            energy = new_value - value - 0.5 * (p.square().sum(1) - momentum.square().sum(1))
            probability = energy.nan_to_num(-math.inf).clamp(max=0).exp()
            probability = torch.where(value.isfinite(), probability, new_value.isfinite().double())
            accepted = torch.rand(len(u), generator=generator, dtype=u.dtype) < probability
            u = torch.where(accepted[:, None], new, u)
            score = torch.where(accepted[:, None], new_score, score)
            value = torch.where(accepted, new_value, value)
            self.acceptance = float(probability.mean())
            self.step = float(
                min(1.0, max(1e-3, self.step * math.exp(0.3 * (self.acceptance - ACCEPT))))
            )
        self.points, self.values = frame.place(u), value

    def choose(self, count: int, generator: torch.Generator) -> Tensor:
        """Points of different chains, (count, D), as far as there are chains."""
        finite = self.values.isfinite().nonzero()[:, 0]
        return self.points[finite[torch.randperm(len(finite), generator=generator)[:count]]]

    def state_dict(self) -> dict[str, Any]:
        """Points and step size."""
        return {"points": self.points, "step": self.step}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Particles:
        """The chains that `state` was taken of."""
        chains = cls(state["points"])
        chains.step = state["step"]
        return chains
