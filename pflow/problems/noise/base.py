"""The interface of noise models, and the base class of Gaussian ones."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pflow.errors import PflowError

__all__ = ["GaussianNoise", "Noise", "device_of", "positive_everywhere", "standard_normal"]


def standard_normal(shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
    """Draws from N(0, 1) in float64 on the generator's device: rounded afterwards, they are the
    same draws in every dtype.
    """
    return torch.randn(
        *shape, generator=generator, dtype=torch.float64, device=device_of(generator)
    )


class Noise(ABC):
    """A distribution of residuals r = y - F(x), computed in the dtype and on the device of its
    input.

    Arguments:
        shape: the shape of one observation.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)

    @property
    def size(self) -> int:
        """m, the number of data that count."""
        return math.prod(self.shape)

    @abstractmethod
    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        drawn_in: torch.dtype = torch.float64,
    ) -> Float[Tensor, "n *data"]:
        """Independent draws, on the generator's device.

        Arguments:
            n: number of draws.
            generator: None for torch's own.
            dtype: of the result.
            drawn_in: of the random numbers, which are rounded to `dtype` before anything else: from
                float64 come the same draws in every dtype.
        """

    @abstractmethod
    def log_likelihood(self, residual: Float[Tensor, "batch *data"]) -> Float[Tensor, " batch"]:
        """log p(r), normalised."""

    def log_likelihood_each(
        self, residual: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *data"] | None:
        """log p(r_k) of each datum, 0 where data are missing; their sum is `log_likelihood`. None
        where the noise of the data is not independent.
        """
        return None

    @abstractmethod
    def whiten(self, residual: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        """w(r), standard normal for such noise."""

    @abstractmethod
    def marginal(self, index: Int[Tensor, " kept"]) -> Noise:
        """The noise of some of the data, given by their places in the flattened y."""

    def recorded(self, y: Float[Tensor, "n *data"]) -> Float[Tensor, "n *data"]:
        """Data as flows are conditioned on them: 0 where they are missing."""
        return y

    def add_to(
        self,
        prediction: Float[Tensor, "n *data"],
        generator: torch.Generator | None = None,
        drawn_in: torch.dtype = torch.float64,
    ) -> Float[Tensor, "n *data"]:
        """Data as they would be recorded: prediction + noise, 0 where they are missing."""
        return prediction + self.sample(len(prediction), generator, prediction.dtype, drawn_in).to(
            prediction.device
        )

    def chi_square(self, residual: Float[Tensor, "batch *data"]) -> Float[Tensor, " batch"]:
        """|w(r)|^2 / m, of mean 1 and variance 2 / m."""
        return self.whiten(residual).flatten(1).square().sum(1) / self.size


class GaussianNoise(Noise):
    """r = S w: a subclass says S (`colour`), its inverse (`whiten`) and log det S."""

    log_determinant: float

    @abstractmethod
    def colour(self, white: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        """S w."""

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        drawn_in: torch.dtype = torch.float64,
    ) -> Float[Tensor, "n *data"]:
        return self.colour(
            torch.randn(
                n, *self.shape, generator=generator, dtype=drawn_in, device=device_of(generator)
            ).to(dtype)
        )

    def log_likelihood(self, residual: Float[Tensor, "batch *data"]) -> Float[Tensor, " batch"]:
        return -0.5 * self.whiten(residual).flatten(1).square().sum(1) - (
            self.log_determinant + 0.5 * self.size * math.log(2 * math.pi)
        )


def device_of(generator: torch.Generator | None) -> torch.device:
    """Where a generator draws."""
    return torch.device("cpu") if generator is None else generator.device


def positive_everywhere(name: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`value` over the whole of `shape`, in float64."""
    try:
        whole = torch.broadcast_to(value.detach().double().cpu(), shape).clone()
    except RuntimeError as error:
        raise PflowError(
            f"`{name}` of the noise must fit data of shape {shape}, and has the shape"
            f" {tuple(value.shape)}: give one number, or one a datum"
        ) from error
    if not (whole.isfinite() & (whole > 0)).all():
        raise PflowError(
            f"`{name}` of the noise must be positive and finite, and its smallest value is"
            f" {float(whole.min())}: correct it"
        )
    return whole
