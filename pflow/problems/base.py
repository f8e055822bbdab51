r"""Bayesian inverse problems.

    x ~ p(x),    y = F(x) + noise

with two versions of F: one of low fidelity, in which pairs (x, y) are cheap, and one of high
fidelity, in which the posterior p(x given y) is wanted.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators import Operator
from pflow.problems.noise import IndependentNoise, Noise, standard_normal

__all__ = ["ExactPosterior", "Fidelity", "Problem", "standard_normal"]

Fidelity = Literal["low", "high"]


@runtime_checkable
class ExactPosterior(Protocol):
    """The posterior p(x given y) of one observation, computed in float64 without approximation
    beyond rounding.

    Tensors come in the dtype and on the device of the observation; log densities in those of the
    points.

    Attributes:
        log_evidence: log p(y); None where it is too costly, `log_density` is then not available
            either.
        mean: posterior mean, (*model).
        std: posterior standard deviation of each parameter, (*model).
    """

    @property
    def log_evidence(self) -> float | None: ...

    @property
    def mean(self) -> Float[Tensor, "*model"]: ...

    @property
    def std(self) -> Float[Tensor, "*model"]: ...

    def log_density(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, " batch"]:
        """log p(x given y), normalised."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n *model"]:
        """Independent draws."""


class Problem(ABC):
    """A prior, two operators and noise.

    Arguments:
        low_fidelity: the cheap operator.
        high_fidelity: the expensive operator, with the same model and data shapes.
        noise_std: standard deviation of independent Gaussian noise on each datum; None where
            `noise` is given.
        parameter_names: a label for each element of the flattened model, with its unit if it has
            one.
        noise: any other model of noise, see `pflow.problems.noise`.

    Raises:
        PflowError: if `noise_std` is not positive, if not exactly one of it and `noise` is given,
            or if shapes do not agree.

    Example:
        >>> from pflow.problems import Gaussian
        >>> problem = Gaussian()
        >>> x, y = problem.simulate(3, torch.Generator().manual_seed(0))
        >>> x.shape, y.shape
        (torch.Size([3, 64]), torch.Size([3, 64]))
        >>> problem.log_likelihood(y, problem.high_fidelity(x)).shape
        torch.Size([3])
    """

    name: str
    model_unit: str = "1"  # unit of x and of y in the stores; "1" is a pure number
    data_unit: str = "1"

    def __init__(
        self,
        low_fidelity: Operator,
        high_fidelity: Operator,
        noise_std: float | None,
        parameter_names: Sequence[str],
        noise: Noise | None = None,
    ) -> None:
        self.low_fidelity = low_fidelity
        self.high_fidelity = high_fidelity
        if noise is None and noise_std is not None:
            self.noise: Noise = IndependentNoise(self.data_shape, noise_std)
        elif noise is not None and noise_std is None:
            self.noise = noise
        else:
            raise PflowError(
                "a problem needs either `noise_std`, a positive number, or `noise`, a model of"
                " noise: give one of the two"
            )
        self.noise_std = self.noise.std if isinstance(self.noise, IndependentNoise) else None
        if self.noise.shape != self.data_shape:
            raise PflowError(
                f"`noise.shape` (={self.noise.shape}) must be the shape of the data"
                f" {self.data_shape}: build the noise with it"
            )
        self.parameter_names = tuple(parameter_names)
        for shape in ("model_shape", "data_shape"):
            low, high = getattr(low_fidelity, shape), getattr(high_fidelity, shape)
            if low != high:
                raise PflowError(
                    f"`{shape}` must be the same for both operators, and is {low} (low) and {high}"
                    " (high fidelity): adapt one"
                )
        if len(self.parameter_names) != math.prod(self.model_shape):
            raise PflowError(
                "`parameter_names` must have one name for each of the"
                f" {math.prod(self.model_shape)} parameters, and has {len(self.parameter_names)}"
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
        if type(self).summary is not Problem.summary:
            return tuple(self.summary(torch.ones(1, *self.data_shape)).shape[1:])
        return self.model_shape if self._needs_image else self.data_shape

    def summary(self, y: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *summary"]:
        """The data that condition a flow: y itself; if the model is an image and y is not one on
        its grid, the low-fidelity operator's `summary`: back-projected or migrated data.

        A problem with a better summary overrides this: y -> s(y), batch first. The likelihood sees
        y itself, and a summary costs no high-fidelity evaluation.
        """
        return self.low_fidelity.summary(y) if self._needs_image else y

    @property
    def _needs_image(self) -> bool:
        """Whether models are images (channels, height, width) and data are not images of that
        height and width.
        """
        return len(self.model_shape) == 3 and self.data_shape[-2:] != self.model_shape[-2:]

    def physical(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *physical"]:
        """The physical parameters: x itself, unless the problem uses other coordinates, such as
        unbounded ones of bounded parameters.
        """
        return x

    @abstractmethod
    def sample_prior(
        self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "n *model"]:
        """Independent draws from p(x), on the generator's device; the same draws in every dtype, up
        to rounding.
        """

    def sample_truth(
        self, n: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n *model"]:
        """True models of simulated observations: draws of the prior, unless observations are of
        another kind than the training models.
        """
        return self.sample_prior(n, generator)

    def for_split(self, split: Literal["train", "validation", "test"]) -> Problem:
        """The problem that draws the models of one split: itself, unless models come from a file,
        whose parts must not mix.
        """
        return self

    @abstractmethod
    def log_prior(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, " batch"]:
        """log p(x), normalised."""

    def exact_posterior(
        self, y: Float[Tensor, "1 *data"], fidelity: Fidelity = "high"
    ) -> ExactPosterior | None:
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
        """Independent pairs (x, y): x from the prior, y = F(x) + noise, 0 where data are
        missing.
        """
        x = self.sample_prior(n, generator, dtype)
        prediction = self.operator(fidelity)(x)
        return x, self.noise.add_to(prediction, generator)

    def log_likelihood(
        self, y: Float[Tensor, "#batch *data"], prediction: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, " batch"]:
        """log p(y given x) with prediction = F(x), normalised; a single y serves the whole
        batch.
        """
        return self.noise.log_likelihood(y - prediction)

    def observed(self, y: Tensor) -> Float[Tensor, "*data"]:
        """One observation without its batch axis.

        Raises:
            PflowError: if `y` is not a single, finite observation.
        """
        if tuple(y.shape) not in (self.data_shape, (1, *self.data_shape)):
            raise PflowError(
                f"an exact posterior needs a single `y` of shape {(1, *self.data_shape)}, and got"
                f" {tuple(y.shape)}: take one row of it"
            )
        if not y.isfinite().all():
            raise PflowError("`y` must be finite, and holds NaN or infinity: check the observation")
        return y.detach().reshape(self.data_shape)
