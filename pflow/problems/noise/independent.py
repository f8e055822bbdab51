"""Independent Gaussian noise on real and on complex data."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators import Constant
from pflow.problems.noise.base import GaussianNoise, positive_everywhere
from pflow.problems.validation import positive_number

__all__ = ["ComplexNoise", "IndependentNoise"]


class IndependentNoise(GaussianNoise):
    r"""Independent Gaussian noise, :math:`r_k \sim N(0, \sigma_k^2)`.

    Arguments:
        shape: the shape of one observation.
        std: sigma, one positive number for all data, or a tensor that broadcasts to `shape`.

    Raises:
        PflowError: if a standard deviation is not positive, or the shapes do not fit.

    Example:
        >>> import torch
        >>> noise = IndependentNoise((2,), 0.5)
        >>> noise.whiten(torch.tensor([[0.5, -1.0]]))
        tensor([[ 1., -2.]])
    """

    def __init__(self, shape: Sequence[int], std: float | Float[Tensor, "*data"]) -> None:
        super().__init__(shape)
        if isinstance(std, Tensor):
            self.std: float | None = None
            self._std = Constant(positive_everywhere("noise_std", std, self.shape))
            self.log_determinant = self._std.value.log().sum().item()
        else:
            self.std = positive_number("noise_std", std)
            self.log_determinant = self.size * math.log(self.std)

    def colour(self, white: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        return self._like(white) * white

    def whiten(self, residual: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        return residual / self._like(residual)

    def log_likelihood_each(
        self, residual: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *data"]:
        log_std = math.log(self.std) if self.std is not None else self._std.like(residual).log()
        return -0.5 * self.whiten(residual).square() - log_std - 0.5 * math.log(2 * math.pi)

    def marginal(self, index: Int[Tensor, " kept"]) -> IndependentNoise:
        return IndependentNoise(
            (len(index),), self._std.value.flatten()[index] if self.std is None else self.std
        )

    def _like(self, values: Tensor) -> float | Tensor:
        return self._std.like(values) if self.std is None else self.std


class ComplexNoise(IndependentNoise):
    r"""Independent circular Gaussian noise on complex data: :math:`E |r_k|^2 = \sigma_k^2`, half of
    it in each part.

    Arguments:
        shape: the shape of one observation, its last axis (real, imaginary) of size 2.
        std: sigma, one positive number, or a tensor that broadcasts to `shape` without its last
            axis.

    Raises:
        PflowError: if the last axis is not of size 2, or a standard deviation is not positive.

    Example:
        >>> import torch
        >>> noise = ComplexNoise((3, 2), 2**0.5)  # three complex data
        >>> noise.whiten(torch.ones(1, 3, 2)).unique()
        tensor([1.])
    """

    def __init__(self, shape: Sequence[int], std: float | Float[Tensor, "*data"]) -> None:
        if len(shape) == 0 or shape[-1] != 2:
            raise PflowError(
                "complex data must have a last axis (real, imaginary) of size 2, and the shape is"
                f" {tuple(shape)}: use torch.view_as_real"
            )
        of_modulus = (
            std[..., None] if isinstance(std, Tensor) else positive_number("noise_std", std)
        )
        super().__init__(shape, of_modulus / math.sqrt(2))
