"""log p~ and its gradient as a Markov chain asks for them: at one point, in the chain's
coordinates.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from pflow.inference.evaluation import Ledger
from pflow.inference.laplace import LARGEST, LaplaceCoordinates, laplace_coordinates
from pflow.inference.target import Target
from pflow.storage.evaluations import EvaluationStore
from pflow.storage.kept_points import KeptPoints

__all__ = ["ChainDensity", "ChainSpace", "PointAnswer", "point_function"]

MANY = 32  # unknowns from which finding good coordinates pays
WIDENED = 1.5  # standard deviations of Laplace's approximation, where chains begin


@dataclass(frozen=True)
class ChainSpace:
    """Where the chains move: flattened models, or the coordinates of `pflow.inference.laplace`."""

    shape: tuple[int, ...]
    coordinates: LaplaceCoordinates | None

    @classmethod
    def of(cls, target: Target, seed: int) -> ChainSpace:
        """The space for a target; finding the coordinates costs evaluations."""
        shape = target.problem.model_shape
        wanted = MANY <= math.prod(shape) <= LARGEST
        random = torch.Generator().manual_seed(seed)
        return cls(shape, laplace_coordinates(target, random) if wanted else None)

    def starts(self, models: np.ndarray, seed: int) -> np.ndarray:
        """Points where chains may begin, (several, D).

        Flattened models, or draws of Laplace's approximation that is widened: wider than the
        posterior, as R-hat wants them, and not so far away that tuning is spent on the way.
        """
        if self.coordinates is None:
            return models.reshape(len(models), -1)
        random = torch.Generator().manual_seed(seed)
        size = (len(models), math.prod(self.shape))
        return WIDENED * torch.randn(size, generator=random, dtype=torch.float64).numpy()

    def model(self, flat: np.ndarray) -> torch.Tensor:
        """The model (1, *model) at one point of a chain."""
        point = torch.from_numpy(np.array(flat, dtype=np.float64))
        if self.coordinates is None:
            return point.reshape(1, *self.shape)
        return self.coordinates.model(point[None])

    def pull(self, score: torch.Tensor) -> torch.Tensor:
        """The gradient with respect to the point, for one with respect to the model."""
        return score if self.coordinates is None else self.coordinates.pull(score)


class PointAnswer(NamedTuple):
    """What an evaluation at one point brought: value and gradient, or why it failed; the seconds in
    the operator, and the evaluations and invalid points that it counts as.
    """

    value: float
    gradient: np.ndarray
    failure: str
    seconds: float
    points: int
    invalid: int


def point_function(target: Target, space: ChainSpace) -> Callable[[np.ndarray], PointAnswer]:
    """A function of one point, (D,), that raises nothing and leaves the target's ledger and store
    alone: a chain comes to no point twice, and its points would fill the memory.
    """

    def ask(flat: np.ndarray) -> PointAnswer:
        own = dataclasses.replace(target, ledger=Ledger(), store=EvaluationStore(None))
        value, gradient, failure = math.nan, np.zeros(0), ""
        try:
            evaluated = own.evaluate(space.model(flat))
            value = float(evaluated.log_density)
            gradient = space.pull(evaluated.score).numpy().reshape(-1)
        except Exception as error:  # whatever the user's operator raises at an extreme point
            failure = f"{type(error).__name__}: {error}"
        if not failure and not (math.isfinite(value) and np.isfinite(gradient).all()):
            failure = "the density or its gradient is NaN or infinite"
        ledger = own.ledger
        return PointAnswer(value, gradient, failure, ledger.seconds, ledger.points, ledger.invalid)

    return ask


class ChainDensity:
    """The function that the sampler calls, from several threads where chains run in parallel. It
    counts evaluations in the target's ledger, and the points that must be rejected.

    Arguments:
        ledger: of the target.
        ask: the answer at a point, here or in another process.
        kept: answers of a killed run.
    """

    def __init__(
        self, ledger: Ledger, ask: Callable[[np.ndarray], PointAnswer], kept: KeptPoints
    ) -> None:
        self.ledger, self._ask, self._kept = ledger, ask, kept
        self._lock = threading.Lock()
        self.calls, self.rejected, self.first_failure = 0, 0, ""

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        stored = self._kept.find(flat)
        answer = self._ask(flat) if stored is None else PointAnswer(*stored, "", 0.0, 1, 0)
        with self._lock:
            self.calls += 1
            self.ledger.points += answer.points
            self.ledger.invalid += answer.invalid
            self.ledger.seconds += answer.seconds
            if answer.failure:
                self.rejected += 1
                self.first_failure = self.first_failure or answer.failure
                raise _Recoverable(answer.failure)
            if stored is None:
                self._kept.add(flat, answer.value, answer.gradient)
        return answer.value, answer.gradient


class _Recoverable(ValueError):
    """nutpie rejects the step instead of stopping when an error says so."""

    is_recoverable = True
