"""Reference draws by the No-U-Turn sampler, with nutpie (optional extra `reference`).

Hoffman, Gelman 2014, https://arxiv.org/abs/1111.4246; R-hat, effective sample sizes and divergences (Vehtari, Gelman, Simpson,
Carpenter, Burkner 2021, https://arxiv.org/abs/1903.08008, as ArviZ computes them) decide whether the chains may serve as a reference.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch

from pflow.errors import PflowError
from pflow.target import Target

__all__ = ["Chains", "convergence", "run_nuts"]


@dataclass(frozen=True)
class Chains:
    """x and log p~(x) of each chain, (chain, draw, *model) and (chain, draw), and the number of divergent steps."""

    x: np.ndarray
    lp: np.ndarray
    divergences: int


def run_nuts(target: Target, *, draws: int, tune: int, chains: int, seed: int, start: np.ndarray) -> Chains:
    """Chains of the posterior, one after the other, in float64; every step costs evaluations, counted by the target's ledger.

    Arguments:
        draws: of each chain.
        tune: steps of each chain that adapt and are thrown away.
        start: where to begin, (several, *model), one of them for each chain at random; draws of the prior are good.

    Raises:
        PflowError: nutpie is not installed, or the sampler cannot start.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the ArviZ that nutpie brings
            import nutpie
            from nutpie.compiled_pyfunc import from_pyfunc
    except ImportError as error:
        raise PflowError('`reference.kind: nuts` needs nutpie: pip install "pflow[reference]", or set `reference.kind: none`') from error
    shape = target.problem.model_shape
    size = math.prod(shape)

    def make_log_density(**_: object):
        def log_density(flat: np.ndarray) -> tuple[float, np.ndarray]:
            found = target.evaluate(torch.from_numpy(np.array(flat, dtype=np.float64)).reshape(1, *shape))
            if not bool(found.valid):
                raise _Recoverable("the posterior density is not finite here")
            return float(found.log_density), found.score.numpy().reshape(-1)

        return log_density

    def make_expand(seed1: int, seed2: int, chain: int, **_: object):
        return lambda flat, **_: {"x": np.asarray(flat)}

    def initial_point(seed: int) -> np.ndarray:
        row = np.random.default_rng(seed).integers(len(start))
        return np.asarray(start[row], dtype=np.float64).reshape(-1)

    model = from_pyfunc(size, make_log_density, make_expand, [np.dtype("float64")], [(size,)], ["x"], make_initial_point_fn=initial_point)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trace = nutpie.sample(model, draws=draws, tune=tune, chains=chains, cores=1, seed=seed, save_warmup=False, progress_bar=False)
    except Exception as error:  # nutpie raises what its Rust side says
        raise PflowError(f"NUTS stopped ({str(error).splitlines()[0]}): check the operator's gradient, or set `reference.kind: none`") from error
    x = np.asarray(trace.posterior["x"].values).reshape(chains, draws, *shape)
    stats = trace.sample_stats
    return Chains(x, np.asarray(stats["logp"].values), int(np.asarray(stats["diverging"].values).sum()))


class _Recoverable(ValueError):
    """nutpie rejects the step instead of stopping when an error says so."""

    is_recoverable = True


def convergence(chains: Chains) -> dict[str, float]:
    """The worst R-hat and effective sample sizes over all unknowns, and the share of divergent steps."""
    from arviz_stats.base import array_stats

    count, draws = chains.x.shape[:2]
    unknowns = np.moveaxis(chains.x.reshape(count, draws, -1), -1, 0)
    return {
        "r_hat": float(max(array_stats.rhat(u) for u in unknowns)),
        "ess_bulk": float(min(array_stats.ess(u, method="bulk") for u in unknowns)),
        "ess_tail": float(min(array_stats.ess(u, method="tail", prob=(0.05, 0.95)) for u in unknowns)),
        "divergent_fraction": chains.divergences / (count * draws),
    }
