"""Rounds of evaluations: draws of the model's posterior are evaluated, and the model of F learns
from them.

Where to begin: at the mode (`mode`), in a handful of evaluations; in few dimensions, where a
posterior may have several modes, at draws of the posterior of F_low at y_obs. After each round the
models of F compete (`competition`), and the posterior of the winner draws the next points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pflow.errors import PflowError
from pflow.objectives.surrogate.competition import FAR_OFF, FEW_PARAMETERS, Competition
from pflow.objectives.surrogate.evaluated import Evaluated
from pflow.objectives.surrogate.gaussian import PosteriorGaussian, gauss_newton, widened
from pflow.objectives.surrogate.mode import ModeSearch
from pflow.objectives.surrogate.operator_model import LowFidelity, OperatorModel
from pflow.objectives.surrogate.particles import Particles
from pflow.objectives.surrogate.tempering import gaussian_of, tempered_draws

__all__ = ["Exploration"]

MANY_DRAWS, CHAINS, BURN_IN, TRANSITIONS = 1024, 64, 10, 4
SMALLEST_ROUND, GROWTH = 4, 32  # points in a round: 4, or a 32nd of those known
SKEWED = (
    0.2  # difference of moments, in standard deviations, beyond which a Gaussian is a poor start
)
FITS = 10.0  # mean squared residual, in noise variances, of a place that F_low fits
LOW, AROUND_MODE = "low fidelity", "affine around the mode"
Watch = Callable[[Evaluated, int, OperatorModel, PosteriorGaussian], None]


class Exploration:
    """What has been evaluated, the model that won, its posterior.

    Arguments:
        low: the low-fidelity operator, in whitened coordinates.
        evaluate: valid evaluations of F at points v, (n, D); each point is paid for.
        watch: is told of each round: the valid draws, how many were asked, the model's posterior
            that they are of, and its Gaussian.

    Attributes:
        evaluated: all valid evaluations.
        posterior: the model's posterior.
        frame: its Gaussian.
        competition: the models of F, and their errors at new points.
    """

    def __init__(
        self,
        low: LowFidelity,
        evaluate: Callable[[Tensor], Evaluated],
        watch: Watch = lambda *round_: None,
    ) -> None:
        self.low, self.evaluate, self.watch = low, evaluate, watch
        self.model = low.model
        self.few = self.model.size <= FEW_PARAMETERS
        self.evaluated = Evaluated.none(self.model.size, low.data.size)
        self.search = ModeSearch.start(self.model.size)
        self.posterior = OperatorModel(low, None)
        self.competition = Competition(low)
        self.chains: Particles | None = None
        zero = torch.zeros(self.model.size, dtype=torch.float64)
        self.fitted_in = self.frame = PosteriorGaussian(
            zero, torch.eye(self.model.size, dtype=torch.float64)
        )

    @property
    def kind(self) -> str:
        """What the posterior is a posterior of."""
        return self.competition.kind or (AROUND_MODE if self.posterior.delta else LOW)

    @property
    def known(self) -> int:
        """Valid evaluations."""
        return len(self.evaluated)

    @property
    def error_at_new_points(self) -> float:
        """Of the model of F, in noise standard deviations; 0 before it has been tested."""
        return (self.competition.error or 0.0) ** 0.5

    @property
    def mispredicts(self) -> bool:
        """Whether the posterior of the model may be far off, and the mode a better guide."""
        return not self.few and self.error_at_new_points > FAR_OFF

    def advance(self, budget: int, generator: torch.Generator) -> None:
        """One step of the mode search, or one round of at most `budget` points."""
        if self.few:
            self._round(min(budget, self._round_size()), generator)
        elif not self.known:
            self._begin(budget, generator)
        elif not self.search.finished:
            self._search_mode()
        else:
            self._round(min(budget, self._round_size()), generator)

    def _round_size(self) -> int:
        return max(SMALLEST_ROUND, self.known // GROWTH)

    # --- the mode ---

    def _begin(self, budget: int, generator: torch.Generator) -> None:
        """The prior mean and the mode of F_low's posterior.

        The search starts at the latter if F_low fits there, and otherwise at the prior mean: where
        F_low is wrong, its mode can lie in a narrow valley far from the posterior.
        """
        places = torch.zeros(1, self.model.size, dtype=torch.float64)
        if budget > 1:
            places = torch.cat([places, gauss_newton(self.posterior, places[0]).mean[None]])
        evaluated = self.evaluate(places)
        if not len(evaluated):  # neither is in the domain of F: draws of the prior are
            prior = self.model.problem.sample_prior(SMALLEST_ROUND, generator, torch.float64)
            evaluated = self.evaluate(self.model.whiten(prior)[: max(1, budget - len(places))])
        if len(evaluated) == 2:
            misfit = (self.low.data.observed - evaluated.w).square().mean(1)
            if float(misfit[1]) > max(FITS, 0.01 * float(misfit[0])):
                evaluated = evaluated.take(torch.tensor([0]))
        self.evaluated = evaluated

    def _search_mode(self) -> None:
        v, predicted = self.search.propose(self.evaluated, self.low)
        best = self.evaluated.best()
        new = self.evaluate(v)
        gained = (
            float(new.log_density[0] - self.evaluated.log_density[best]) if len(new) else -math.inf
        )
        self.search = self.search.judge(
            predicted, gained, float((v - self.evaluated.v[best]).norm())
        )
        self.evaluated = self.evaluated + new
        if self.search.finished:
            self._linearise()

    def _linearise(self) -> None:
        """The model around the best point, and its Gaussian."""
        self.posterior = self._model_around(self.evaluated.best())
        self.frame = gauss_newton(self.posterior, self.evaluated.v[self.evaluated.best()])

    def _model_around(self, index: int) -> OperatorModel:
        return OperatorModel(self.low, self.evaluated.fit_around(index))

    def around_best(self) -> PosteriorGaussian:
        """Laplace's approximation at the best point that has been evaluated."""
        best = self.evaluated.best()
        return gauss_newton(self._model_around(best), self.evaluated.v[best])

    def conclude(self, generator: torch.Generator) -> None:
        """The budget is spent: with what is known, the model and its Gaussian."""
        if not self.known:
            raise PflowError(
                "F or its density is NaN or infinite at every point that was evaluated: guard the"
                " division, logarithm or root of F that fails, or restrict the prior to models for"
                " which F is defined"
            )
        if not self.few and not self.competition.models:
            self._linearise()
        elif not self.few and self.posterior.closed_form:
            self.frame = widened(self.posterior, self.frame, generator)

    # --- rounds ---

    def _round(self, count: int, generator: torch.Generator) -> None:
        new = self.evaluate(self.draw(count, generator))
        self.watch(new, count, self.posterior, self.frame)
        self.competition.judge(new)
        self.evaluated = self.evaluated + new
        if self.known:
            self.refit()

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws of the model's posterior, (count, D)."""
        if self.few:
            draws = tempered_draws(self.posterior, MANY_DRAWS, generator)
            self.frame = gaussian_of(draws)
            return draws[:count]
        if self.posterior.closed_form:
            noise = torch.randn(count, self.model.size, generator=generator, dtype=torch.float64)
            return self.frame.place(noise)
        if self.chains is None:
            noise = torch.randn(CHAINS, self.model.size, generator=generator, dtype=torch.float64)
            self.chains = Particles(self.frame.place(noise))
            self.chains.move(self.posterior, self.frame, BURN_IN, generator)
        return self._move_on(self.chains, generator).choose(count, generator)

    def _move_on(self, chains: Particles, generator: torch.Generator) -> Particles:
        chains.move(self.posterior, self.frame, TRANSITIONS, generator)
        return chains

    def refit(self) -> None:
        """Fit every kind of model to all evaluations, those near the posterior foremost."""
        if not self.few:
            for _ in range(2):
                affine = self.competition.affine(self.evaluated, self._weights())
                self.frame = gauss_newton(affine, self.frame.mean)
        self.fitted_in = self.frame
        self._fit()

    def _fit(self) -> None:
        self.posterior = self.competition.fit(self.evaluated, self._weights(), self.moments())

    def _weights(self, frame: PosteriorGaussian | None = None) -> Tensor:
        distance = (frame or self.frame).whiten(self.evaluated.v).square().sum(1) / self.model.size
        return self.evaluated.weights(distance)

    def settle(self, draws: int, generator: torch.Generator) -> Tensor | None:
        """About `draws` draws of the posterior, (n, D), by chains that run on, where it is far from
        its Gauss-Newton Gaussian: the frame then takes their moments. None where the Gaussian
        describes it.
        """
        if draws < 8 * self.model.size:
            return None
        self.draw(1, generator)
        if self.chains is None:
            return None
        kept = [
            self._move_on(self.chains, generator).points for _ in range(max(4, draws // CHAINS))
        ]
        pool = torch.cat(kept[len(kept) // 4 :])
        u = self.frame.whiten(pool)
        away = max(
            float(u.mean(0).square().mean().sqrt()), float((u.std(0) - 1).square().mean().sqrt())
        )
        if away < SKEWED:
            return None
        self.frame = gaussian_of(pool)
        return pool

    def moments(self, frame: PosteriorGaussian | None = None) -> tuple[Tensor, Tensor]:
        """Mean of a Gaussian (absent: the frame) as a flattened model, (D,), and a root of its
        covariance, (D, D).
        """
        frame = frame or self.frame
        mean = self.model.model(frame.mean[None]).flatten(1)[0]
        identity = torch.eye(self.model.size, dtype=torch.float64)
        root = torch.linalg.solve_triangular(frame.factor.T, identity, upper=True)
        return mean, (
            self.model.root @ root if self.model.root.ndim == 2 else self.model.root[:, None] * root
        )

    # --- checkpoints ---

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers; models are fitted again on loading."""
        return {
            "evaluated": dict(vars(self.evaluated)),
            "search": [self.search.radius, float(self.search.finished), self.search.predicted],
            "frames": [*vars(self.frame).values(), *vars(self.fitted_in).values()],
            "competition": self.competition.state_dict(),
            "linearised": self.posterior.delta is not None,
            "chains": None if self.chains is None else self.chains.state_dict(),
            "calls": self.low.calls,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        radius, finished, predicted = state["search"]
        self.search = ModeSearch(radius, bool(finished), predicted)
        frame, self.frame = (PosteriorGaussian(*state["frames"][k : k + 2]) for k in (0, 2))
        self.fitted_in = self.frame
        self.competition.load_state_dict(state["competition"])
        self.chains = None if state["chains"] is None else Particles.from_state(state["chains"])
        self.evaluated = Evaluated(**state["evaluated"])
        if self.competition.kind:
            self._fit()
        elif state["linearised"]:
            self.posterior = self._model_around(self.evaluated.best())
        self.frame = frame
        self.low.calls = state["calls"]
