"""Variational Bayesian Monte Carlo by its authors' library, PyVBMC, in a few parameters.

Acerbi 2018, https://arxiv.org/abs/1810.05558: a mixture of normal distributions is fitted to a
Gaussian process of log p~, which needs values alone; an evaluation is a value.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from league_problems import LeagueProblem
from league_table import BUDGETS
from league_whitened import Whitened

__all__ = ["pyvbmc"]

LARGEST_BUDGET = 64  # a Gaussian process of more points takes many minutes
STEP = 5  # points that are evaluated at once
PLAUSIBLE = 2.0  # prior standard deviations


def pyvbmc(given: LeagueProblem, seed: int, budget: int) -> Iterator[dict[str, Any]]:
    """A run of its own for each budget."""
    from pyvbmc import VBMC

    size = given.size
    for allowed in (b for b in BUDGETS if b <= min(budget, LARGEST_BUDGET)):
        posterior, began = Whitened(given), time.perf_counter()

        def log_density(v: np.ndarray, posterior: Whitened = posterior) -> float:
            return -float(posterior.value_and_gradient(torch.from_numpy(np.atleast_2d(v)))[0])

        options = {"max_fun_evals": allowed - allowed % STEP, "display": "off", "show_tips": False}
        bounds = np.full((1, size), PLAUSIBLE)
        run = VBMC(
            log_density,
            np.zeros((1, size)),
            plausible_lower_bounds=-bounds,
            plausible_upper_bounds=bounds,
            options=options,
            seed=seed,
        )
        logging.disable(logging.WARNING)
        found, _ = run.optimize()
        logging.disable(logging.NOTSET)
        spent, seconds = posterior.spent, time.perf_counter() - began
        v = found.sample(given.judge.enough())[0]
        log_q = found.pdf(v, log_flag=True)[:, 0]
        yield {
            "evaluations": spent,
            "seconds": seconds,
            **posterior.judged_draws(torch.from_numpy(v), torch.from_numpy(log_q)),
        }
