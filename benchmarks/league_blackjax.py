"""Pathfinder and NUTS in coordinates of the prior, by BlackJAX.

Zhang, Carpenter, Gelman, Vehtari 2022, https://arxiv.org/abs/2108.03782; Hoffman, Gelman 2014,
https://arxiv.org/abs/1111.4246. The posterior is called from JAX, value and gradient together; a
point that was asked for just before is not asked again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from league_problems import LeagueProblem
from league_table import BUDGETS, budget_of
from league_whitened import Whitened

__all__ = ["nuts_prior", "pathfinder"]

Rows = Iterator[dict[str, Any]]
ELBO_DRAWS = 5  # of each normal distribution on the path
SPREAD = 0.1  # prior standard deviations, of the starts
KEPT = 64  # points that are not asked again
WARM_UP, FEWEST = 50, 10  # steps of adaptation; draws of a chain that have moments


def pathfinder(given: LeagueProblem, seed: int, budget: int) -> Rows:
    """The normal distribution of the highest ELBO on a path of L-BFGS to the mode; for each budget
    the part of the path that it pays.
    """
    blackjax, jax = _packages()
    posterior, began = Whitened(given), time.perf_counter()
    log_density, asked = _log_density(jax, posterior)
    start = SPREAD * np.random.default_rng(seed).standard_normal(posterior.size)
    _, info = blackjax.vi.pathfinder.approximate(
        jax.random.key(seed),
        log_density,
        start,
        num_samples=ELBO_DRAWS,
        maxiter=budget // (ELBO_DRAWS + 1),
    )
    seconds, elbo = time.perf_counter() - began, np.asarray(info.path.elbo)
    made = np.isfinite(elbo)  # JAX's shapes are fixed: iterations after the last are not counted
    spent = np.array([asked.get(v.tobytes(), 0) for v in np.asarray(info.path.position)])
    spent = np.where(made, spent + ELBO_DRAWS * np.cumsum(made), budget + 1)
    for allowed in (b for b in BUDGETS if b <= budget):
        paid = spent <= allowed
        if not paid.any():
            continue
        best = int(np.argmax(np.where(paid, elbo, -np.inf)))
        state = jax.tree.map(lambda path, i=best: path[i], info.path)
        v, log_q = blackjax.vi.pathfinder.sample(jax.random.key(7), state, given.judge.enough())
        errors = posterior.judged_draws(*(torch.from_numpy(np.array(a)) for a in (v, log_q)))
        yield {"evaluations": int(spent[paid].max()), "seconds": seconds, **errors}


def nuts_prior(given: LeagueProblem, seed: int, budget: int) -> Rows:
    """One chain of NUTS with a diagonal metric and step size that 50 steps adapt."""
    blackjax, jax = _packages()
    posterior, began = Whitened(given), time.perf_counter()
    log_density, _ = _log_density(jax, posterior)
    start = SPREAD * np.random.default_rng(seed).standard_normal(posterior.size)
    keys = jax.random.split(jax.random.key(seed), 2)
    adaptation = blackjax.window_adaptation(blackjax.nuts, log_density)
    (state, settings), _ = adaptation.run(keys[0], start, WARM_UP)
    if posterior.spent > budget:
        return
    step = jax.jit(blackjax.nuts(log_density, **settings).step)
    key, draws, last = keys[1], [], None
    while True:
        key, used = jax.random.split(key)
        state, _ = step(used, state)
        jax.block_until_ready(state)
        spent = posterior.spent
        if last and (spent > budget or budget_of(spent) > budget_of(last["evaluations"])):
            yield last | _moments(posterior, draws)
        if spent > budget:
            return
        draws.append(np.array(state.position))
        if len(draws) >= FEWEST:
            last = {"evaluations": spent, "seconds": time.perf_counter() - began}


def _moments(posterior: Whitened, draws: list[np.ndarray]) -> dict[str, float]:
    x = posterior.model(torch.from_numpy(np.stack(draws)))
    return posterior.given.judge.of_draws(x.flatten(1).numpy())


def _packages() -> tuple[Any, Any]:
    import blackjax
    import jax

    jax.config.update("jax_enable_x64", True)
    return blackjax, jax


def _log_density(jax: Any, posterior: Whitened) -> tuple[Callable[[Any], Any], dict[bytes, int]]:
    """log p~(v) for JAX, with its gradient; and after how many evaluations each single point was
    known.
    """
    size, kept, asked = posterior.size, OrderedDict(), {}
    shapes = (jax.ShapeDtypeStruct((), float), jax.ShapeDtypeStruct((size,), float))

    def ask(v: Any) -> tuple[np.ndarray, np.ndarray]:
        points = np.asarray(v, dtype=np.float64)
        flat = points.reshape(-1, size)
        names = [row.tobytes() for row in flat]
        new = [i for i, name in enumerate(names) if name not in kept]
        if new:
            value, gradient = posterior.value_and_gradient(torch.from_numpy(flat[new].copy()))
            for i, u, g in zip(new, value.tolist(), gradient.numpy(), strict=True):
                kept[names[i]] = (-u, -g)
            if len(names) == 1:
                asked[names[0]] = posterior.spent
        answers = [kept[name] for name in names]
        while len(kept) > KEPT:
            kept.popitem(last=False)
        values = np.array([value for value, _ in answers])
        gradients = np.array([gradient for _, gradient in answers])
        return values.reshape(points.shape[:-1]), gradients.reshape(points.shape)

    def both(v: Any) -> Any:
        return jax.pure_callback(ask, shapes, v, vmap_method="expand_dims")

    @jax.custom_vjp
    def log_density(v: Any) -> Any:
        return both(v)[0]

    log_density.defvjp(both, lambda gradient, cotangent: (cotangent * gradient,))
    return log_density, asked
