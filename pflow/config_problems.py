"""Settings of the problems: prior, operators and noise. One class a problem; `Problem` is any of them.

Each knows its `model_shape`, the shape of one x, so that the rest of the configuration can be checked against it without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Union

from pflow.decoding import TaggedUnion, setting

__all__ = ["BimodalProblem", "GaussianProblem", "LogNormalProblem", "Problem", "RosenbrockProblem"]


@dataclass(frozen=True)
class RosenbrockProblem(TaggedUnion):
    """Two unknowns, the Rosenbrock prior and a random 2x2 operator (the paper's first experiment)."""

    tag_value: ClassVar[str] = "rosenbrock"
    noise_std: float = setting("Standard deviation of the independent Gaussian noise on y.", 0.4, above=0)
    mu: float = setting("Mean of x1 under the prior.", 0.0)
    operator_seed: int = setting("Seed of the random high-fidelity operator.", 0, minimum=0)
    model_shape: ClassVar[tuple[int, ...]] = (2,)


@dataclass(frozen=True)
class GaussianProblem(TaggedUnion):
    """Correlated Gaussian prior on a square grid with dense linear operators: the posterior is exact in any dimension."""

    tag_value: ClassVar[str] = "gaussian"
    side: int = setting("Points along each side of the grid: the model has side * side unknowns.", 8, minimum=1, maximum=64)
    length: float = setting("Correlation length of the prior, in grid points.", 1.5, above=0)
    noise_std: float = setting("Standard deviation of the independent Gaussian noise on y.", 0.4, above=0)
    operator_seed: int = setting("Seed of the random high-fidelity operator.", 3, minimum=0)

    @property
    def model_shape(self) -> tuple[int, ...]:
        return (self.side**2,)


@dataclass(frozen=True)
class LogNormalProblem(TaggedUnion):
    """A positive random field seen through a matrix: nonlinear in any dimension, without an exact posterior."""

    tag_value: ClassVar[str] = "lognormal"
    side: int = setting("Points along each side of the grid: the model has side * side unknowns.", 8, minimum=1, maximum=64)
    length: float = setting("Correlation length of the prior, in grid points.", 1.5, above=0)
    noise_std: float = setting("Standard deviation of the independent Gaussian noise on y.", 0.4, above=0)
    strength: float = setting("How nonlinear the operator is.", 0.5, above=0)
    operator_seed: int = setting("Seed of the random high-fidelity operator.", 3, minimum=0)

    @property
    def model_shape(self) -> tuple[int, ...]:
        return (self.side**2,)


@dataclass(frozen=True)
class BimodalProblem(TaggedUnion):
    """Two unknowns whose posterior has two separated modes."""

    tag_value: ClassVar[str] = "bimodal"
    noise_std: float = setting("Standard deviation of the independent Gaussian noise on y.", 0.3, above=0)
    model_shape: ClassVar[tuple[int, ...]] = (2,)


Problem = Union[RosenbrockProblem, GaussianProblem, LogNormalProblem, BimodalProblem]
