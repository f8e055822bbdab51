"""Missing data under any noise."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pflow.errors import PflowError
from pflow.problems.noise.base import Noise

__all__ = ["MaskedNoise"]


class MaskedNoise(Noise):
    """Any noise with missing data, which count neither in the likelihood nor in chi-square,
    whatever y holds there (NaN included).

    Where noise is correlated, the data that remain keep their own joint distribution.

    Arguments:
        noise: the noise if nothing were missing.
        mask: True where there is a datum, in the shape of one observation.

    Raises:
        PflowError: if the shapes differ, or everything is missing.

    Example:
        >>> from pflow.problems.noise import IndependentNoise
        >>> noise = MaskedNoise(IndependentNoise((2,), 1.0), torch.tensor([True, False]))
        >>> noise.log_likelihood(torch.tensor([[0.0, torch.nan]]))
        tensor([-0.9189])
    """

    def __init__(self, noise: Noise, mask: Bool[Tensor, "*data"]) -> None:
        super().__init__(noise.shape)
        if tuple(mask.shape) != self.shape or mask.dtype != torch.bool:
            raise PflowError(
                f"`mask` must hold booleans (True: measured) in the shape {self.shape} of y, and is"
                f" {mask.dtype} {tuple(mask.shape)}"
            )
        if not mask.any():
            raise PflowError(
                "`mask` must be True for at least one datum, and every datum is missing: correct it"
            )
        self._complete, self._mask = noise, mask.detach().cpu().clone()
        self._index = self._mask.flatten().nonzero()[:, 0]
        self._kept = noise.marginal(self._index)

    @property
    def size(self) -> int:
        return self._kept.size

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        drawn_in: torch.dtype = torch.float64,
    ) -> Float[Tensor, "n *data"]:
        return self._spread(self._kept.sample(n, generator, dtype, drawn_in))

    def log_likelihood(self, residual: Float[Tensor, "batch *data"]) -> Float[Tensor, " batch"]:
        return self._kept.log_likelihood(self._measured(residual))

    def log_likelihood_each(
        self, residual: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *data"] | None:
        each = self._kept.log_likelihood_each(self._measured(residual))
        return None if each is None else self._spread(each)

    def whiten(self, residual: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        return self._spread(self._kept.whiten(self._measured(residual)))

    def marginal(self, index: Int[Tensor, " kept"]) -> MaskedNoise:
        return MaskedNoise(self._complete.marginal(index), self._mask.flatten()[index])

    def recorded(self, y: Float[Tensor, "n *data"]) -> Float[Tensor, "n *data"]:
        return self._spread(self._measured(y))

    def add_to(
        self,
        prediction: Float[Tensor, "n *data"],
        generator: torch.Generator | None = None,
        drawn_in: torch.dtype = torch.float64,
    ) -> Float[Tensor, "n *data"]:
        return self._spread(self._kept.add_to(self._measured(prediction), generator, drawn_in))

    def _measured(self, values: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch kept"]:
        return values.flatten(1)[:, self._index.to(values.device)]

    def _spread(self, kept: Float[Tensor, "batch kept"]) -> Float[Tensor, "batch *data"]:
        """In their places, with 0 for what is missing."""
        spread = kept.new_zeros(len(kept), math.prod(self.shape))
        return spread.index_copy(1, self._index.to(kept.device), kept).reshape(
            len(kept), *self.shape
        )
