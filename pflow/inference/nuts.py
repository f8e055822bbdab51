"""Reference draws by the No-U-Turn sampler, with nutpie (optional extra `reference`).

Hoffman, Gelman 2014, https://arxiv.org/abs/1111.4246; R-hat, effective sample sizes and divergences
(Vehtari, Gelman, Simpson, Carpenter, Burkner 2021, https://arxiv.org/abs/1903.08008, as ArviZ
computes them) decide whether the chains may serve as a reference.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch

from pflow.errors import PflowError
from pflow.inference.laplace import LARGEST, LaplaceCoordinates, laplace_coordinates
from pflow.inference.target import Target

__all__ = ["Chains", "convergence", "run_nuts"]

MANY = 32  # unknowns from which finding good coordinates pays


@dataclass(frozen=True)
class Chains:
    """What the chains brought.

    Attributes:
        x, lp: draws and log p~ there, (chain, draw, *model) and (chain, draw).
        divergences: number of divergent steps.
        evaluations: that each chain had cost up to each draw, its adaptation included, (chain,
            draw).
        rejected: points at which the operator raised an exception, or value or gradient were NaN
            or infinite; NUTS rejects them.
        first_failure: what the first of them was; empty without one.
    """

    x: np.ndarray
    lp: np.ndarray
    divergences: int
    evaluations: np.ndarray
    rejected: int = 0
    first_failure: str = ""


def run_nuts(
    target: Target,
    *,
    draws: int,
    tune: int,
    chains: int,
    seed: int,
    start: np.ndarray,
    tell: Callable[[int, int], None] = lambda steps, total: None,
) -> Chains:
    """Chains of the posterior, one after the other, in float64; every step costs evaluations,
    counted by the target's ledger.

    A point at which the operator raises an exception, or where value or gradient are NaN or
    infinite, is rejected and counted.

    With many unknowns they run in the coordinates of `pflow.inference.laplace`, where steps can be
    long in all directions.

    Arguments:
        target: the unnormalised posterior.
        draws: of each chain.
        tune: steps of each chain that adapt and are thrown away.
        chains: number of chains.
        seed: of the starts, the momenta and the trajectories.
        start: where to begin, (several, *model), one of them for each chain at random; draws of the
            prior are good.
        tell: called after each step of a chain with the steps so far and those of all chains.

    Raises:
        PflowError: nutpie is not installed, or the sampler cannot start.
    """
    nutpie = _require_nutpie()  # before anything is spent
    space = _Space.of(target, seed)
    places = space.of_models(torch.from_numpy(np.asarray(start, dtype=np.float64)))
    density = _Density(target, space)
    model = _compiled_model(nutpie, density, places, tell, chains * (tune + draws))
    try:
        trace = _sample(nutpie, model, draws=draws, tune=tune, chains=chains, seed=seed)
    except Exception as error:  # nutpie raises what its Rust side says
        raise PflowError(_why_stopped(error, density)) from error
    stats = trace.sample_stats
    adapting = np.asarray(trace.warmup_sample_stats["n_steps"].values).sum(1, keepdims=True)
    return Chains(
        np.asarray(trace.posterior["x"].values).reshape(chains, draws, *space.shape),
        np.asarray(stats["logp"].values),
        int(np.asarray(stats["diverging"].values).sum()),
        adapting + np.asarray(stats["n_steps"].values).cumsum(1),
        density.rejected,
        density.first_failure,
    )


@dataclass(frozen=True)
class _Space:
    """Where the chains move: flattened models, or the coordinates of `pflow.inference.laplace`."""

    shape: tuple[int, ...]
    coordinates: LaplaceCoordinates | None

    @classmethod
    def of(cls, target: Target, seed: int) -> _Space:
        shape = target.problem.model_shape
        wanted = MANY <= math.prod(shape) <= LARGEST
        random = torch.Generator().manual_seed(seed)
        return cls(shape, laplace_coordinates(target, random) if wanted else None)

    def of_models(self, x: torch.Tensor) -> np.ndarray:
        """Points of the chains, (several, unknowns), for models (several, *model)."""
        flat = x.flatten(1) if self.coordinates is None else self.coordinates.of_model(x)
        return flat.contiguous().numpy()

    def model(self, flat: np.ndarray) -> torch.Tensor:
        """The model (1, *model) at one point of a chain."""
        point = torch.from_numpy(np.array(flat, dtype=np.float64))
        if self.coordinates is None:
            return point.reshape(1, *self.shape)
        return self.coordinates.model(point[None])

    def pull(self, score: torch.Tensor) -> torch.Tensor:
        """The gradient with respect to the point, for one with respect to the model."""
        return score if self.coordinates is None else self.coordinates.pull(score)


class _Density:
    """log p~ and its gradient at one point of a chain; counts the points that must be rejected."""

    def __init__(self, target: Target, space: _Space) -> None:
        self.target, self.space = target, space
        self.calls, self.rejected, self.first_failure = 0, 0, ""

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        self.calls += 1
        try:
            evaluated = self.target.evaluate(self.space.model(flat))
            score = self.space.pull(evaluated.score)
        except Exception as error:  # whatever the user's operator raises at an extreme point
            raise self._reject(f"{type(error).__name__}: {error}") from error
        value, gradient = float(evaluated.log_density), score.numpy().reshape(-1)
        if not (math.isfinite(value) and np.isfinite(gradient).all()):
            raise self._reject("the density or its gradient is NaN or infinite")
        return value, gradient

    def _reject(self, reason: str) -> _Recoverable:
        self.rejected += 1
        self.first_failure = self.first_failure or reason
        return _Recoverable(reason)


def _require_nutpie() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the ArviZ that nutpie brings
            import nutpie
            import nutpie.compiled_pyfunc
    except ImportError as error:
        raise PflowError(
            "`reference.kind: nuts` needs nutpie: pip install nutpie, or set `reference.kind: none`"
        ) from error
    return nutpie


def _compiled_model(
    nutpie: ModuleType,
    density: _Density,
    places: np.ndarray,
    tell: Callable[[int, int], None],
    total_steps: int,
) -> Any:
    """The posterior as nutpie wants it: functions of flat arrays."""
    steps, space = itertools.count(1), density.space

    def make_log_density(**_: object) -> _Density:
        return density

    def make_expand(seed1: int, seed2: int, chain: int, **_: object):
        def expand(flat: np.ndarray, **_: object) -> dict[str, np.ndarray]:
            tell(next(steps), total_steps)
            return {"x": space.model(flat).numpy().reshape(-1)}

        return expand

    def initial_point(seed: int) -> np.ndarray:
        return places[np.random.default_rng(seed).integers(len(places))]

    size = math.prod(space.shape)
    return nutpie.compiled_pyfunc.from_pyfunc(
        size,
        make_log_density,
        make_expand,
        [np.dtype("float64")],
        [(size,)],
        ["x"],
        make_initial_point_fn=initial_point,
    )


def _sample(
    nutpie: ModuleType, model: Any, *, draws: int, tune: int, chains: int, seed: int
) -> Any:
    """One chain after the other, as ArviZ's groups of draws."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nutpie.sample(
            model,
            draws=draws,
            tune=tune,
            chains=chains,
            cores=1,
            seed=seed,
            save_warmup=True,
            progress_bar=False,
        )


def _why_stopped(error: Exception, density: _Density) -> str:
    """One line from what nutpie's Rust side said, and what the operator did."""
    way_out = "check the operator and its gradient, or set `reference.kind: none`"
    if density.rejected:
        return (
            f"NUTS stopped: {density.rejected} of {density.calls} points were rejected, the first"
            f" because of {density.first_failure}: {way_out}"
        )
    return f"NUTS stopped ({str(error).splitlines()[0]}): {way_out}"


class _Recoverable(ValueError):
    """nutpie rejects the step instead of stopping when an error says so."""

    is_recoverable = True


def convergence(chains: Chains) -> dict[str, float]:
    """The worst R-hat and effective sample sizes over all unknowns, and the share of divergent
    steps.
    """
    from arviz_stats.base import array_stats

    count, draws = chains.x.shape[:2]
    unknowns = np.moveaxis(chains.x.reshape(count, draws, -1), -1, 0)
    return {
        "r_hat": float(max(array_stats.rhat(u) for u in unknowns)),
        "ess_bulk": float(min(array_stats.ess(u, method="bulk") for u in unknowns)),
        "ess_tail": float(
            min(array_stats.ess(u, method="tail", prob=(0.05, 0.95)) for u in unknowns)
        ),
        "divergent_fraction": chains.divergences / (count * draws),
    }
