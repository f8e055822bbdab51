"""Rounds of evaluations: draws of the model's posterior are evaluated, and the model learns from them."""

from __future__ import annotations

import math
from typing import Callable

import torch
from torch import Tensor

from pflow.objectives.surrogate.additive import AdditiveResidual
from pflow.objectives.surrogate.coordinates import WhitenedData, WhitenedModel
from pflow.objectives.surrogate.evaluated import Evaluated
from pflow.objectives.surrogate.gaussian import PosteriorGaussian, gauss_newton
from pflow.objectives.surrogate.mode import ModeSearch
from pflow.objectives.surrogate.operator_model import LowFidelity, OperatorModel
from pflow.objectives.surrogate.particles import Particles

__all__ = ["Exploration"]

FORGET = 0.7


class Exploration:
    def __init__(self, model: WhitenedModel, data: WhitenedData, low: LowFidelity, evaluate: Callable[[Tensor], Evaluated], particles: int = 64, transitions: int = 4, widen: bool = False):
        self.model, self.data, self.low, self.ask = model, data, low, evaluate
        self.evaluated: Evaluated | None = None
        self.count, self.transitions, self.widen = particles, transitions, widen
        self.search = ModeSearch.start(model.size)
        self.frame: PosteriorGaussian | None = None
        self.posterior: OperatorModel | None = None
        self.particles: Particles | None = None
        self.errors: dict[str, float] = {}
        self.kind = "affine"
        self.correct, self.correction = False, None

    def seek_mode(self, budget: int) -> int:
        """Evaluations spent."""
        spent = 0
        if self.evaluated is None:
            self.evaluated = self.ask(torch.zeros(1, self.model.size, dtype=torch.float64)); spent = 1
        while not self.search.finished and spent < budget:
            v, predicted = self.search.propose(self.evaluated, self.low)
            best = self.evaluated.best()
            new = self.ask(v); spent += 1
            gained = float(new.log_density - self.evaluated.log_density[best]) if len(new) else -math.inf
            self.search = self.search.judge(predicted, gained, float((v - self.evaluated.v[best]).norm()))
            if len(new): self.evaluated = self.evaluated + new
        best = self.evaluated.best()
        self.posterior = OperatorModel(self.low, self.evaluated.fit_around(best))
        self.frame = gauss_newton(self.posterior, self.evaluated.v[best])
        return spent

    def start_low(self, generator):
        """Posterior of F_low."""
        self.posterior = OperatorModel(self.low, None)
        self.frame = gauss_newton(self.posterior, torch.zeros(self.model.size, dtype=torch.float64))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        if self.posterior.closed_form and not self.widen:
            return self.frame.place(torch.randn(n, self.model.size, generator=generator, dtype=torch.float64))
        if self.particles is None:
            self.particles = Particles(self.frame.place(torch.randn(self.count, self.model.size, generator=generator, dtype=torch.float64)))
            self.particles.move(self.posterior, self.frame, 10, generator)
        self.particles.move(self.posterior, self.frame, self.transitions, generator)
        good = self.particles.values.isfinite().nonzero()[:, 0]
        return self.particles.points[good[torch.randperm(len(good), generator=generator)[:n]]]

    def round(self, n: int, generator: torch.Generator) -> None:
        new = self.ask(self.draw(n, generator))
        self._note(new)
        self.evaluated = new if self.evaluated is None else self.evaluated + new
        self.refit()

    def _note(self, new: Evaluated) -> None:
        """Errors of the fitted models at points that they have not seen."""
        if getattr(self, "models", None) is None or not len(new): return
        for name, model in self.models.items():
            error = float((new.w - model.predict(new.v)).square().mean())
            self.errors[name] = error if name not in self.errors else FORGET * self.errors[name] + (1 - FORGET) * error

    def refit(self) -> None:
        e = self.evaluated
        for _ in range(2):
            u = self.frame.whiten(e.v)
            weights = (self.model.size / u.square().sum(1)).clamp(max=1).square()
            affine = e.fit(weights)
            # the frame is the Gaussian of the affine model: it only sets weights and coordinates
            plain = OperatorModel(self.low, affine)
            self.frame = gauss_newton(plain, self.frame.mean)
        self.models = {"affine": OperatorModel(self.low, affine, widen=self.widen)}
        kept = weights > 1e-8
        x = self.model.model(e.v[kept]).flatten(1)
        mean = self.model.model(self.frame.mean[None]).flatten(1)[0]
        root = torch.linalg.solve_triangular(self.frame.factor, self.model.root.T if self.model.root.ndim == 2 else torch.diag(self.model.root), upper=False)
        std = root.square().sum(0).sqrt()
        residual = (e.w - e.low)[kept] - affine.mean(e.v[kept])
        additive = AdditiveResidual(x, residual, weights[kept], mean, std)
        self.additive = additive
        if additive.error < additive.before:
            self.models["additive"] = OperatorModel(self.low, affine, additive, widen=self.widen)
        kinds = [k for k in self.models if k in self.errors]
        self.kind = min(kinds, key=self.errors.get) if kinds else "affine"
        self.posterior = self.models[self.kind]
        if self.correct:
            from pflow.objectives.surrogate.score_correction import fit_score_correction
            _, score = self.posterior.value_and_score(e.v[kept])
            total = e.gradient[kept] + self.model.prior_score(e.v[kept])
            u = self.frame.whiten(e.v[kept])
            self.correction = fit_score_correction(u, self.frame.pull(total - score), weights[kept])
            if self.correction is not None:
                self.posterior = OperatorModel(self.low, affine, self.posterior.additive, self.widen, self.correction, self.frame)
