"""Draws and scores of a flow, which need no operator."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pflow.flows.base import Flow
from pflow.objectives.replay.score_model import DENSE

__all__ = ["draws_for_moments", "flow_score", "gradient"]

DRAWS = 2048
FEW_DRAWS = 512  # where a variance for each unknown is all that is estimated
ELEMENTS = 2**22  # of draws that are made at once: they can be images


def gradient(
    log_density: Callable[[Tensor], Tensor], points: Tensor, shape: tuple[int, ...]
) -> Tensor:
    """The gradient of a log density of models of that shape, at flattened points, (n, D)."""
    with torch.enable_grad():
        x = points.detach().requires_grad_(True)
        return torch.autograd.grad(log_density(x.view(len(x), *shape)).sum(), x)[0]


def flow_score(flow: Flow, summary: Tensor, points: Tensor) -> Tensor:
    """grad_x log q at flattened points, (n, D)."""
    return gradient(lambda x: flow.log_prob(x, summary), points, flow.model_shape)


@torch.no_grad()
def draws_for_moments(
    flow: Flow, summary: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Enough flattened draws for a `Metric`, (n, D), and their log q."""
    size = math.prod(flow.model_shape)
    left = max(DRAWS, 4 * size) if size <= DENSE else FEW_DRAWS
    parts = []
    while left:
        n = min(left, max(1, ELEMENTS // size))
        parts.append(flow.sample_with_log_prob(summary, n, generator))
        left -= n
    return torch.cat([x.flatten(1) for x, _ in parts]), torch.cat([log_q for _, log_q in parts])
