"""The interface of priors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError

__all__ = ["Prior", "checked_density", "checked_draws", "seeded_by"]


@runtime_checkable
class Prior(Protocol):
    """The distribution p(x). Any object with these members is one.

    Attributes:
        shape: the shape of one model.
    """

    shape: tuple[int, ...]

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n *model"]:
        """Independent draws, from the generator alone, in the prior's own dtype."""

    def log_density(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, " batch"]:
        """log p(x), normalised, in the dtype and on the device of x and differentiable by
        autograd.
        """


def seeded_by(generator: torch.Generator | None) -> int:
    """A seed for a library that has only seeds, drawn from the generator."""
    device = torch.device("cpu") if generator is None else generator.device
    return int(torch.randint(2**62, (), generator=generator, device=device))


def checked_draws(
    draws: Tensor, n: int, shape: Sequence[int], source: str
) -> Float[Tensor, "n *model"]:
    """The draws, if they are n models.

    Raises:
        PflowError: otherwise.
    """
    if not isinstance(draws, Tensor) or tuple(draws.shape) != (n, *shape):
        returned = tuple(draws.shape) if isinstance(draws, Tensor) else type(draws).__name__
        raise PflowError(
            f"{source} must return {n} models as a tensor of shape {(n, *shape)}, and returned"
            f" {returned}: correct it, or the shape of the prior"
        )
    return draws


def checked_density(log_density: Tensor, x: Tensor, source: str) -> Float[Tensor, " batch"]:
    """The log densities, if they are one number for each x.

    Raises:
        PflowError: otherwise.
    """
    if not isinstance(log_density, Tensor) or tuple(log_density.shape) != (len(x),):
        returned = (
            tuple(log_density.shape)
            if isinstance(log_density, Tensor)
            else type(log_density).__name__
        )
        raise PflowError(
            f"{source} must return one log density for each of the {len(x)} models, a tensor of"
            f" shape {(len(x),)}, and returned {returned}: sum over the parameters"
        )
    return log_density.to(x)
