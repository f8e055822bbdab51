r"""Bayesian inverse problems.

    x ~ p(x),    y = F(x) + noise,    noise ~ N(0, noise_std^2 I)

with two versions of F: one of low fidelity, in which pairs (x, y) are cheap, and one of high fidelity, in which the posterior
p(x given y) is wanted.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators import Operator
from pflow.problems.validation import positive_number

__all__ = ["ExactPosterior", "Fidelity", "Problem", "standard_normal"]

Fidelity = Literal["low", "high"]


@runtime_checkable
class ExactPosterior(Protocol):
    """The posterior p(x given y) of one observation, computed in float64 without approximation beyond rounding.

    Tensors come in the dtype and on the device of the observation; log densities in those of the points.

    Attributes:
        log_evidence: log p(y).
        mean: posterior mean, (*model).
        std: posterior standard deviation of each unknown, (*model).
        covariance: posterior covariance of the flattened model.
    """

    log_evidence: float
    mean: Float[Tensor, "*model"]
    std: Float[Tensor, "*model"]
    covariance: Float[Tensor, "size size"]

    def log_density(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, " batch"]:
        """log p(x given y), normalised."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n *model"]:
        """Independent draws."""


class Problem(ABC):
    """A prior, two operators and Gaussian noise.

    Arguments:
        low_fidelity: the cheap operator.
        high_fidelity: the expensive operator, with the same model and data shapes.
        noise_std: standard deviation of the noise on each datum.
        parameter_names: a label for each element of the flattened model, with its unit if it has one.

    Raises:
        PflowError: if `noise_std` is not positive, or shapes do not agree.
    """

    name: ClassVar[str]
    model_unit: ClassVar[str] = "1"  # unit of x and of y in the stores; "1" is a pure number
    data_unit: ClassVar[str] = "1"

    def __init__(self, low_fidelity: Operator, high_fidelity: Operator, noise_std: float, parameter_names: Sequence[str]) -> None:
        self.low_fidelity = low_fidelity
        self.high_fidelity = high_fidelity
        self.noise_std = positive_number("noise_std", noise_std)
        self.parameter_names = tuple(parameter_names)
        for shape in ("model_shape", "data_shape"):
            low, high = getattr(low_fidelity, shape), getattr(high_fidelity, shape)
            if low != high:
                raise PflowError(
                    f"`{shape}` must be the same for both operators, and is {low} (low) and {high} (high fidelity): adapt one"
                )
        if len(self.parameter_names) != math.prod(self.model_shape):
            raise PflowError(
                f"`parameter_names` must have one name for each of the {math.prod(self.model_shape)} unknowns, "
                f"and has {len(self.parameter_names)}"
            )

    @property
    def model_shape(self) -> tuple[int, ...]:
        """The shape of one model x."""
        return self.high_fidelity.model_shape

    @property
    def data_shape(self) -> tuple[int, ...]:
        """The shape of one observation y."""
        return self.high_fidelity.data_shape

    @property
    def summary_shape(self) -> tuple[int, ...]:
        """The shape of `summary` of one observation."""
        return self.data_shape

    def summary(self, y: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *summary"]:
        """What a flow sees of the data: here y itself. A problem whose data suit no network (travel times, raw measurements of an
        image) overrides this and `summary_shape`, for example by a back-projection onto the model's grid; it costs no high-fidelity evaluation.
        """
        return y

    @abstractmethod
    def sample_prior(
        self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n *model"]:
        """Independent draws from p(x), on the generator's device; the same draws in every dtype, up to rounding."""

    @abstractmethod
    def log_prior(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, " batch"]:
        """log p(x), normalised."""

    def exact_posterior(self, y: Float[Tensor, "1 *data"], fidelity: Fidelity = "high") -> ExactPosterior | None:
        """The exact posterior of one observation where it is known, otherwise None."""
        return None

    def operator(self, fidelity: Fidelity) -> Operator:
        """The operator of that fidelity.

        Raises:
            PflowError: if `fidelity` is neither "low" nor "high".
        """
        operators = {"low": self.low_fidelity, "high": self.high_fidelity}
        if fidelity not in operators:
            raise PflowError(f"`fidelity` (={fidelity!r}) must be 'low' or 'high'")
        return operators[fidelity]

    @torch.no_grad()
    def simulate(
        self,
        n: int,
        generator: torch.Generator | None = None,
        fidelity: Fidelity = "low",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Float[Tensor, "n *model"], Float[Tensor, "n *data"]]:
        """Independent pairs (x, y): x from the prior, y = F(x) + noise."""
        x = self.sample_prior(n, generator, dtype)
        prediction = self.operator(fidelity)(x)
        noise = standard_normal((n, *self.data_shape), generator).to(prediction)
        return x, prediction + self.noise_std * noise

    def log_likelihood(
        self, y: Float[Tensor, "#batch *data"], prediction: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, " batch"]:
        """log p(y given x) with prediction = F(x), normalised; a single y serves the whole batch."""
        misfit = ((y - prediction) / self.noise_std).flatten(1).square().sum(1)
        return -0.5 * misfit - math.prod(self.data_shape) * (math.log(self.noise_std) + 0.5 * math.log(2 * math.pi))

    def observed(self, y: Tensor) -> Float[Tensor, "*data"]:
        """One observation without its batch axis.

        Raises:
            PflowError: if `y` is not a single, finite observation.
        """
        if tuple(y.shape) not in (self.data_shape, (1, *self.data_shape)):
            raise PflowError(
                f"an exact posterior needs a single `y` of shape {(1, *self.data_shape)}, and got {tuple(y.shape)}: "
                "take one row of it"
            )
        if not y.isfinite().all():
            raise PflowError("`y` must be finite, and holds NaN or infinity: check the observation")
        return y.detach().reshape(self.data_shape)


def standard_normal(shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
    """Draws from N(0, 1) in float64 on the generator's device: rounded afterwards, they are the same draws in every dtype."""
    device = torch.device("cpu") if generator is None else generator.device
    return torch.randn(*shape, generator=generator, dtype=torch.float64, device=device)
