"""Metric Gaussian and geometric variational inference by their authors' library, NIFTy.

Knollmueller, Ensslin 2019, https://arxiv.org/abs/1901.11033; Frank, Leike, Ensslin 2021,
https://arxiv.org/abs/2105.10470. In coordinates v of the prior, with whitened data w(v) and J its
Jacobian, both stand on the metric M = I + J^T J at a position m, at first the mode, and on
antithetic samples, whose mean energy the position minimises. MGVI samples N(m, M^{-1}); geoVI the
density that

    g(v) = v - m + J(m)^T (w(v) - w(m))

maps to N(0, M). The ledger counts F with its gradient at one x once, and each further product J^T r
once; a product J t is free, because one with J^T follows. Judging is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch
from league_geometric import judged_geometric
from league_problems import LeagueProblem
from league_table import budget_of
from league_whitened import Whitened, inverse_root, mode_of
from torch import Tensor

__all__ = ["geovi", "mgvi_nifty"]

Rows = Iterator[dict[str, Any]]
PAIRS = 2  # antithetic samples
STEPS = 3  # Newton steps of the position, at most, before new samples are drawn
LINEAR, PRODUCTS = 0.05, 50  # nats that a step of conjugate gradients changes at their end
CURVED, ITERATIONS = 0.1, 2  # the same of the minimisation behind a sample of geoVI


def mgvi_nifty(given: LeagueProblem, seed: int, budget: int) -> Rows:
    """MGVI. Judged by N(m, M^{-1}) with the exact M, which it is not charged for."""

    def judged(posterior: Whitened, position: Tensor) -> dict[str, float]:
        jacobian = posterior.jacobian(position, counted=False)
        metric = torch.eye(given.size).double() + jacobian.T @ jacobian
        return posterior.judged(position, inverse_root(metric))

    return _rounds(given, seed, budget, judged, geometric=False)


def geovi(given: LeagueProblem, seed: int, budget: int) -> Rows:
    """geoVI. Judged by draws of its density, `league_geometric`."""
    return _rounds(given, seed, budget, judged_geometric, geometric=True)


def _rounds(given: LeagueProblem, seed: int, budget: int, judged: Any, geometric: bool) -> Rows:
    import nifty.cl as ift

    ift.logger.setLevel("ERROR")
    posterior, seconds = Whitened(given), 0.0
    forward = _forward(ift, posterior)
    data = posterior.problem.noise.whiten(posterior.target.y).flatten().numpy()
    linear = ift.AbsDeltaEnergyController(LINEAR, iteration_limit=PRODUCTS)
    energy = ift.StandardHamiltonian(
        ift.GaussianEnergy(ift.Field(forward.target, data)) @ forward, linear, float
    )
    newton = ift.NewtonCG(ift.AbsDeltaEnergyController(LINEAR, iteration_limit=STEPS))
    curved = ift.NewtonCG(ift.AbsDeltaEnergyController(CURVED, iteration_limit=ITERATIONS))
    position, spent = ift.Field(forward.domain, mode_of(posterior)[0].numpy()), 0
    with ift.random.Context(seed):
        while True:
            began = time.perf_counter()
            try:
                sampled = ift.SampledKLEnergy(
                    position, energy, PAIRS, curved if geometric else None
                )
                found = newton(sampled)[0].position
            except ValueError:  # NIFTy's: no descent direction, where F cannot be computed
                found = None
            now = posterior.spent
            beyond = found is None or now > budget or not np.isfinite(found.asnumpy()).all()
            if spent and (beyond or budget_of(now) > budget_of(spent)):  # the last of a budget
                mean = torch.from_numpy(position.asnumpy().copy())[None]
                yield {
                    "evaluations": spent,
                    "seconds": seconds,
                    **judged(posterior, mean),
                }
                posterior.target.ledger.points = now
            if beyond:
                return
            position, spent = found, now
            seconds += time.perf_counter() - began


def _forward(ift: ModuleType, posterior: Whitened) -> Any:
    """The whitened data w(v) as an operator of NIFTy."""
    domain = ift.makeDomain(ift.UnstructuredDomain(posterior.size))
    one = torch.zeros(1, posterior.size, dtype=torch.float64)
    target = ift.makeDomain(ift.UnstructuredDomain(posterior.data(one).shape[1]))

    def tensor(field: Any) -> Tensor:
        return torch.from_numpy(field.asnumpy().copy())[None]

    class Jacobian(ift.LinearOperator):
        def __init__(self, v: Tensor) -> None:
            self._domain, self._target, self.v, self.free = domain, target, v, True
            self._capability = self.TIMES | self.ADJOINT_TIMES

        def apply(self, x: Any, mode: int) -> Any:
            self._check_input(x, mode)
            if mode == self.TIMES:
                return ift.Field(target, posterior.directional(self.v, tensor(x))[0].numpy())
            found = posterior.adjoint(self.v, tensor(x), counted=not self.free)
            self.free = False
            return ift.Field(domain, found[0].numpy())

    class Forward(ift.Operator):
        def __init__(self) -> None:
            self._domain, self._target = domain, target

        def apply(self, x: Any) -> Any:
            self._check_input(x)
            linear = isinstance(x, ift.Linearization)
            v = tensor(x.val if linear else x)
            posterior.target.ledger.points += 1
            value = ift.Field(target, posterior.data(v)[0].detach().numpy())
            return x.new(value, Jacobian(v)) if linear else value

    return Forward()
