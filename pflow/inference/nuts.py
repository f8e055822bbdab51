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
from contextlib import nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from pflow.errors import PflowError
from pflow.execution.forked import ForkedCalls
from pflow.inference.chain_density import ChainDensity, ChainSpace, point_function
from pflow.inference.target import Target
from pflow.storage.kept_points import KeptPoints

__all__ = ["Chains", "convergence", "run_nuts"]


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
    processes: int = 1,
    kept: KeptPoints | None = None,
) -> Chains:
    """Chains of the posterior in float64; every step costs evaluations, counted by the target's
    ledger. As many chains run at the same time as there are processes; the draws do not depend on
    it.

    A point at which the operator raises an exception, or where value or gradient are NaN or
    infinite, is rejected and counted.

    With many unknowns they run in the coordinates of `pflow.inference.laplace`, where steps can be
    long in all directions, and begin there.

    Arguments:
        target: the unnormalised posterior.
        draws: of each chain.
        tune: steps of each chain that adapt and are thrown away.
        chains: number of chains.
        seed: of the starts, the momenta and the trajectories.
        start: where to begin with few unknowns, (several, *model), one of them for each chain at
            random; draws of the prior are good.
        tell: called after each step of a chain with the steps so far and those of all chains.
        processes: that evaluate the operator.
        kept: answers of a killed run, from which this one continues.

    Raises:
        PflowError: nutpie is not installed, or the sampler cannot start.
    """
    nutpie = _require_nutpie()  # before anything is spent
    space = ChainSpace.of(target, seed)
    places = space.starts(np.asarray(start, dtype=np.float64), seed)
    processes = min(processes, chains)
    ask = point_function(target, space)
    with ForkedCalls(ask, processes) if processes > 1 else nullcontext(ask) as answers:
        density = ChainDensity(target.ledger, answers, kept or KeptPoints(None, "", 0))
        model = _compiled_model(nutpie, density, space, places, tell, chains * (tune + draws))
        try:
            trace = _sample(
                nutpie, model, draws=draws, tune=tune, chains=chains, seed=seed, cores=processes
            )
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
    density: ChainDensity,
    space: ChainSpace,
    places: np.ndarray,
    tell: Callable[[int, int], None],
    total_steps: int,
) -> Any:
    """The posterior as nutpie wants it: functions of flat arrays."""
    steps = itertools.count(1)

    def make_log_density(**_: object) -> ChainDensity:
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
    nutpie: ModuleType, model: Any, *, draws: int, tune: int, chains: int, seed: int, cores: int
) -> Any:
    """`cores` chains at a time, as ArviZ's groups of draws."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nutpie.sample(
            model,
            draws=draws,
            tune=tune,
            chains=chains,
            cores=cores,
            seed=seed,
            save_warmup=True,
            progress_bar=False,
        )


def _why_stopped(error: Exception, density: ChainDensity) -> str:
    """One line from what nutpie's Rust side said, and what the operator did."""
    way_out = "check the operator and its gradient, or set `reference.kind: none`"
    if density.rejected:
        return (
            f"NUTS stopped: {density.rejected} of {density.calls} points were rejected, the first"
            f" because of {density.first_failure}: {way_out}"
        )
    return f"NUTS stopped ({str(error).splitlines()[0]}): {way_out}"


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
