"""Priors from elsewhere: objects with a density and draws, or two functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.problems.priors.base import checked_density, checked_draws, seeded_by

__all__ = ["CallablePrior", "DensityPrior"]


class CallablePrior:
    """A prior given by two functions.

    Arguments:
        shape: the shape of one model.
        log_density: x (batch, *model) -> log p(x) (batch,), in torch, so that autograd finds its
            gradient.
        sample: (n, generator) -> draws (n, *model), with no other source of random numbers than the
            generator.

    Raises:
        PflowError: at use, where a function returns another shape.

    Example:
        >>> prior = CallablePrior(
        ...     (2,),
        ...     log_density=lambda x: -0.5 * x.square().sum(1),
        ...     sample=lambda n, generator: torch.randn(n, 2, generator=generator),
        ... )
        >>> prior.log_density(torch.ones(1, 2))
        tensor([-1.])
    """

    def __init__(
        self,
        shape: Sequence[int],
        log_density: Callable[[Float[Tensor, "batch *model"]], Float[Tensor, " batch"]],
        sample: Callable[[int, torch.Generator | None], Float[Tensor, "n *model"]],
    ) -> None:
        self.shape, self._log_density, self._sample = tuple(shape), log_density, sample

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n *model"]:
        return checked_draws(self._sample(n, generator), n, self.shape, "`sample` of the prior")

    def log_density(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, " batch"]:
        return checked_density(self._log_density(x), x, "`log_density` of the prior")


class DensityPrior:
    """A prior that is any object with `log_prob(x)` and `sample`: a trained flow, a torch
    distribution without bounds, your own class.

    `sample` is called as `sample(n, generator)` if it can take a generator by that name, and
    otherwise, as torch distributions need it, as `sample((n,))`, with torch's global random numbers
    seeded from the generator meanwhile and put back afterwards. The density is computed in the
    dtype and on the device of a draw.

    Arguments:
        density: the object.
        shape: the shape of one model; where `log_prob` gives one number per parameter, they are
            summed.

    Raises:
        PflowError: if the object lacks one of the two, or, at use, where they return another shape.

    Example:
        >>> prior = DensityPrior(torch.distributions.Normal(torch.zeros(2), 1.0), (2,))
        >>> prior.log_density(torch.zeros(1, 2))
        tensor([-1.8379])
    """

    def __init__(self, density: Any, shape: Sequence[int]) -> None:
        for method in ("log_prob", "sample"):
            if not callable(getattr(density, method, None)):
                raise PflowError(
                    f"a prior needs `log_prob(x)` and `sample`, and {type(density).__name__} has no"
                    f" `{method}`: add it, or use CallablePrior"
                )
        self.shape, self._density = tuple(shape), density
        self._takes_generator = "generator" in inspect.signature(density.sample).parameters
        self._like = self.sample(1)[:0]  # its dtype and device

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n *model"]:
        if self._takes_generator:
            draws = self._density.sample(n, generator=generator)
        else:
            seed = seeded_by(generator)
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                draws = self._density.sample((n,))
        return checked_draws(draws, n, self.shape, f"`{type(self._density).__name__}.sample`")

    def log_density(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, " batch"]:
        log_density = self._density.log_prob(x.to(self._like))
        if isinstance(log_density, Tensor) and log_density.shape == x.shape:
            log_density = log_density.flatten(1).sum(1)
        return checked_density(log_density, x, f"`{type(self._density).__name__}.log_prob`")
