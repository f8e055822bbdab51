"""A flow whose density is known: x = y/2 scale + centre + std z, the exact posterior of a Gaussian
pair for scale 1 and std sqrt(1/2).
"""

from __future__ import annotations

import math

import torch
from torch import nn

from pflow.flows.base import Flow


class AffineFlow(Flow):
    """z = (x - centre - slope y) / std, for x and y of one size."""

    def __init__(self, size: int, slope: float, std: float, centre: float = 0.0) -> None:
        super().__init__((size,), (size,))
        self.slope, self.std, self.centre = (
            slope,
            std,
            nn.Parameter(torch.tensor(centre, dtype=torch.float64)),
        )

    def forward(self, x, y):
        z = (x - self.centre - self.slope * y) / self.std
        return z, torch.full((len(z),), -x[0].numel() * math.log(self.std), dtype=x.dtype)

    def inverse(self, z, y):
        x = self.centre + self.slope * y + self.std * z
        return x, torch.full((len(x),), x[0].numel() * math.log(self.std), dtype=x.dtype)
