"""Kinds of models of F, fitted to the same evaluations, compete: the one with the smaller error at
the newest evaluations, before they are fitted, is the model of F. Each kind is fitted to what F
adds to F_low, and to F alone: the curvature of a poor F_low misleads (means of `traveltime` after
128 evaluations at two observations: .14 and .17 posterior standard deviations off without F alone,
.06 and .06 with it).

Errors are mean squares, in noise variances. Their average over rounds is geometric, so that a kind
whose error falls by orders of magnitude is not held to its first attempts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pflow.objectives.surrogate.additive import AdditiveResidual
from pflow.objectives.surrogate.affine import AffineDelta
from pflow.objectives.surrogate.evaluated import REACHED, Evaluated
from pflow.objectives.surrogate.operator_model import LowFidelity, OperatorModel

__all__ = ["FAR_OFF", "FEW_PARAMETERS", "Competition"]

FEW_PARAMETERS = 16  # up to which all modes are looked for, and interactions are modelled
FORGET = 0.7  # weight of past rounds in spreads
FORGET_ERRORS = 0.5  # and in errors
NEAR = (
    4.0  # nats below the best new point, per parameter but at least these, of a point that counts
)
FEWEST_FOR_KERNEL = 8  # evaluations
FAR_OFF = 1.0  # noise standard deviations of error at new points, beyond which a model mispredicts
WORTH = 0.98  # of the error of an affine model, below which an additive one competes
SMALL = 1e-12  # noise variances: errors below are rounding
DIRECTED, AFFINE = "directed affine", "affine"
ADDITIVE, KERNEL = "affine and additive", "kernel"
ALONE = "F alone, "  # before the kind


class Competition:
    """The models of the last fit, and how well each kind has predicted.

    Arguments:
        low: w_low.

    Attributes:
        models: by kind; empty before the first fit.
        errors: of each kind that has been judged.
        spreads: what Var delta of a kind is multiplied by.
        kind: the kind that won; empty before the first fit.
    """

    def __init__(self, low: LowFidelity) -> None:
        self.bases = {"": low}
        if low.operator is not None and low.model.size > FEW_PARAMETERS:
            self.bases[ALONE] = LowFidelity(None, low.model, low.data)
        self.models: dict[str, OperatorModel] = {}
        self.errors: dict[str, float] = {}
        self.spreads: dict[str, float] = {}
        self.kind = ""

    @property
    def winner(self) -> OperatorModel:
        """The model of the kind that won."""
        return self.models[self.kind]

    @property
    def error(self) -> float | None:
        """Of the winner at new points, in noise variances; None before it has been tested."""
        return self.errors.get(self.kind)

    def affine(self, evaluated: Evaluated, weights: Tensor) -> OperatorModel:
        """The affine model on what the winner is built on."""
        base = ALONE if self.kind.startswith(ALONE) else ""
        known = evaluated.beside(self.bases[base])
        directed = self._affine_kinds(base, known)[0].endswith(DIRECTED)
        return OperatorModel(self.bases[base], known.fit(weights, directed))

    def _affine_kinds(self, base: str, known: Evaluated) -> list[str]:
        """The affine kinds on a base, the one with the smaller error first."""
        many = known.v.shape[1] > FEW_PARAMETERS and bool(known.pulled.any())
        kinds = [base + DIRECTED, base + AFFINE] if many else [base + AFFINE]
        return sorted(kinds, key=lambda name: max(self.errors.get(name, 0.0), SMALL))

    def judge(self, new: Evaluated) -> None:
        """Compare what the models predicted with new evaluations."""
        if not len(new):
            return
        for name, model in self.models.items():
            error = _error(model, new)
            self.errors[name] = _average(self.errors.get(name, error), error)
        for name, model in self.models.items():
            if not name.endswith(ADDITIVE):  # whose variance is that of its affine part
                self._calibrate(name, model, new)

    def _calibrate(self, name: str, model: OperatorModel, new: Evaluated) -> None:
        """Var delta is what the evidence of the fit says, but no more than the errors at new points
        are.
        """
        delta, size = model.delta, model.data.size
        assert delta is not None, "a model that competes has been fitted"
        along, beside = (part.mean(0) for part in delta.variance(new.v))
        expected = float(along.sum() + (size - len(along)) * beside) / size
        ratio = min(1.0, self.errors[name] / max(expected, 1e-12))
        self.spreads[name] = FORGET * self.spreads.get(name, 1.0) + (1 - FORGET) * ratio

    def fit(
        self, evaluated: Evaluated, weights: Tensor, moments: tuple[Tensor, Tensor]
    ) -> OperatorModel:
        """Fit every kind that the evaluations allow, and choose.

        Arguments:
            evaluated: all evaluations.
            weights: of the points.
            moments: mean of the posterior as a model, and a root of its covariance.
        """
        self.models = {}
        for base, low in self.bases.items():
            known = evaluated.beside(low)
            kinds = self._affine_kinds(base, known)
            affine = {name: known.fit(weights, name.endswith(DIRECTED)) for name in kinds}
            for name, delta in affine.items():
                spread = self.spreads.get(name, 1.0)
                self.models[name] = OperatorModel(low, delta, spread=spread)
            delta, spread = affine[kinds[0]], self.spreads.get(kinds[0], 1.0)
            additive = self._additive(known, delta, weights, moments)
            if additive.error < WORTH * additive.before:
                self.models[base + ADDITIVE] = OperatorModel(low, delta, additive, spread)
        low = self.bases[""]
        if low.model.size <= FEW_PARAMETERS and len(evaluated) >= FEWEST_FOR_KERNEL:
            kernel, spread = evaluated.fit_kernel(weights), self.spreads.get(KERNEL, 1.0)
            self.models[KERNEL] = OperatorModel(low, kernel, spread=spread)
        self.errors = {name: error for name, error in self.errors.items() if name in self.models}
        judged = [name for name in self.models if name in self.errors and self._may_win(name)]
        # Of errors that are rounding, the first.
        first = next(iter(self.models))
        self.kind = min(judged, key=lambda name: max(self.errors[name], SMALL), default=first)
        return self.winner

    def _may_win(self, name: str) -> bool:
        """F alone knows nothing far from the evaluations, where its draws may then lie: it has to
        predict within the noise.
        """
        return not name.startswith(ALONE) or self.errors[name] <= FAR_OFF**2

    def _additive(
        self,
        evaluated: Evaluated,
        affine: AffineDelta,
        weights: Tensor,
        moments: tuple[Tensor, Tensor],
    ) -> AdditiveResidual:
        kept = weights > REACHED
        near = evaluated.take(kept)
        mean, root = moments
        residual = near.w - near.low - affine.mean(near.v)
        x = self.bases[""].model.model(near.v).flatten(1)
        return AdditiveResidual(x, residual, weights[kept], mean, root.square().sum(1).sqrt())

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers; models are fitted again on loading."""
        return {"errors": dict(self.errors), "spreads": dict(self.spreads), "kind": self.kind}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.errors, self.spreads = dict(state["errors"]), dict(state["spreads"])
        self.kind = state["kind"]


def _error(model: OperatorModel, new: Evaluated) -> float:
    """Mean square at new points; those count less that are far from the posterior in truth and by
    the model's own word.
    """
    with torch.no_grad():
        squares = (new.w - model.predict(new.v)).square().mean(1)
        claimed = model.log_density(new.v).nan_to_num(-math.inf)
    plausible = torch.maximum(new.log_density, claimed)
    depth = (new.log_density.max() - plausible) / max(NEAR, new.v.shape[1])
    error = float((squares / depth.clamp(min=1).square()).mean())
    return error if math.isfinite(error) else math.inf


def _average(before: float, error: float) -> float:
    """The geometric average, with the past forgotten."""
    if not math.isfinite(before) or not math.isfinite(error):
        return error
    past, new = max(before, SMALL), max(error, SMALL)
    return past**FORGET_ERRORS * new ** (1 - FORGET_ERRORS)
