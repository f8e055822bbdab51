r"""p^ as the latent of a flow sees it.

A flow T^{-1}(z; y) with the latent z = m + A w turns p^ into

    p^(z) = p^(T^{-1}(z)) |det dT^{-1}/dz|,        p^(w) = p^(m + A w) |det A|,

and where the flow is the posterior, p^(w) is N(0, I).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pflow.flows.latent import LatentGaussian
from pflow.objectives.linear.posterior import LinearPosterior
from pflow.objectives.surrogate.particles import Particles

__all__ = ["LatentPosterior", "spread_of"]

BATCH_ELEMENTS = 2**16  # of x in one batch: its graph is in memory
CHAINS, CHAIN_ELEMENTS, TRANSITIONS = 16, 2**15, 8  # at least, of w in all; of each chain
CHAIN_STEP = 1.5  # the first step size (`Particles`): p^(w) is nearly N(0, I)
SPREAD_TOLERANCE = 0.002  # of the factor that widens the latent


class LatentPosterior:
    """p^(z) and p^(w) of the module.

    Arguments:
        flow: T under the latent N(m, A A^T).
        summary: of y_obs, which conditions T.
        posterior: p^(x).
    """

    def __init__(self, flow: LatentGaussian, summary: Tensor, posterior: LinearPosterior) -> None:
        self.flow, self.summary, self.posterior = flow, summary, posterior

    def at(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """log p^(z), not normalised, (n,), and its gradient, (n, D)."""
        parts = [self._batch(part) for part in z.split(max(1, BATCH_ELEMENTS // z.shape[1]))]
        value, score = (torch.cat(part) for part in zip(*parts, strict=True))
        return value, score

    def _batch(self, z: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            image = z.view(-1, *self.flow.model_shape)
            x, log_determinant = self.flow.base.inverse(image, self.summary)
            value, score = self.posterior.value_and_score(x)
            (pulled,) = torch.autograd.grad((score * x).sum() + log_determinant.sum(), z)
        return value + log_determinant.detach(), pulled

    @torch.no_grad()
    def value_and_score(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """log p^(w), not normalised, (n,), and its gradient, (n, D), in the dtype of w; -inf and 0
        where they are not finite.
        """
        latent = self.flow.closed
        value, score = self.at(latent(w.to(latent.mean))[0])
        score = latent.pull(score)
        good = value.isfinite() & score.isfinite().all(1)
        value = torch.where(good, value, -torch.inf)
        return value.to(w), torch.where(good[:, None], score, 0.0).to(w)

    @torch.no_grad()
    def spread(self, w: Tensor) -> float:
        """The standard deviation of x over the points w, (n, D), a mean over its parameters."""
        z = self.flow.closed(w.to(self.flow.closed.mean))[0].view(-1, *self.flow.model_shape)
        parts = z.split(max(1, BATCH_ELEMENTS // w.shape[1]))
        x = torch.cat([self.flow.base.inverse(part, self.summary)[0] for part in parts])
        return float(x.std(0).mean())


@torch.no_grad()
def spread_of(latent: LatentPosterior, largest: float, generator: torch.Generator) -> float:
    """The factor s, from 1 to `largest`, by which w is stretched so that x has the standard
    deviations of p^, as a mean over its parameters: those of Hamiltonian chains that begin at
    draws of the flow.

    The flow that minimises KL(q || p^) is narrower than p^ wherever its shape cannot follow.
    """
    size = len(latent.flow.closed.mean)
    chains = max(CHAINS, CHAIN_ELEMENTS // size)
    w = torch.randn(chains, size, generator=generator, dtype=torch.float64)
    particles = Particles(w, CHAIN_STEP)
    particles.move(latent, _StandardNormal(), TRANSITIONS, generator)
    wanted = latent.spread(particles.points)
    low, high = 1.0, largest
    while high - low > SPREAD_TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if latent.spread(middle * w) < wanted else (low, middle)
    return low


class _StandardNormal:
    """The frame of particles that need none: w is N(0, I) already."""

    def place(self, u: Tensor) -> Tensor:
        """w."""
        return u

    whiten = pull = place
