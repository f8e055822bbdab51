r"""The model of F and the posterior that it implies: w^(v) = w_low(v) + delta(v).

    log p^(v) = log p(v) + log N(w_obs; w^(v), I + Var delta(v))

No evaluation of F is needed for it. Var delta, what few evaluations leave open, widens the
likelihood.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pflow.objectives.surrogate.additive import AdditiveResidual
from pflow.objectives.surrogate.affine import AffineDelta
from pflow.objectives.surrogate.coordinates import WhitenedData, WhitenedModel
from pflow.objectives.surrogate.kernel import KernelDelta
from pflow.operators import Operator
from pflow.problems.base import Problem

__all__ = ["LowFidelity", "OperatorModel", "why_unusable"]

NO_GRADIENT = "is constant or has no gradient: give it one (`vjp`, or torch)"
TRIED = 64  # models of the prior


def why_unusable(problem: Problem, generator: torch.Generator) -> str:
    """Why F_low can take no part in the model of F: it has no gradient (one that is constant in
    torch, or leaves it, has none), or is NaN at models of the prior, where the posterior of the
    model would lose its mass without a word. Empty where it can.
    """
    operator = problem.low_fidelity
    x = problem.sample_prior(TRIED, generator, torch.float64)
    with torch.no_grad():
        undefined = int((~operator(x).isfinite()).flatten(1).any(1).sum())
    if undefined:
        return f"is NaN or infinite at {undefined} of {TRIED} models of the prior: mend it there"
    with torch.enable_grad():
        follows = operator.differentiable and operator(x[:1].requires_grad_()).requires_grad
    return "" if follows else NO_GRADIENT


class LowFidelity:
    """w_low(v), its Jacobian, and how often it was called.

    Arguments:
        operator: F_low; None for w_low = 0, a model of F from evaluations alone.
    """

    def __init__(self, operator: Operator | None, model: WhitenedModel, data: WhitenedData) -> None:
        self.operator, self.model, self.data = operator, model, data
        self.calls = 0
        self.linear = operator is None or operator.linear
        self._jacobian: Tensor | None = None
        self._zero: Tensor | None = None

    def __call__(self, v: Tensor) -> Tensor:
        """w_low(v), (batch, m), differentiable."""
        if self.operator is None:
            return torch.zeros(len(v), self.data.size, dtype=v.dtype)
        if self.linear:
            return self._at_zero + v @ self.jacobian(torch.zeros_like(v[:1].sum(0))).T
        return self.at_model(self.model.model(v))

    def at_model(self, x: Tensor) -> Tensor:
        """w_low at models x, (batch, *model), of an operator that is not linear."""
        assert self.operator is not None, "F_low is there"
        self.calls += len(x)
        return self.data.whiten(self.operator(x))

    @property
    def _at_zero(self) -> Tensor:
        if self._zero is None:
            origin = self.model.model(torch.zeros(1, self.model.size, dtype=torch.float64))
            self._zero = self(origin) if self.operator is None else self.operator(origin)
            self._zero = self.data.whiten(self._zero)[0].detach()
        return self._zero

    def jacobian(self, v: Tensor) -> Tensor:
        """d w_low / d v at one v (D,), (m, D): m adjoint products."""
        if self.operator is None:
            return torch.zeros(self.data.size, self.model.size, dtype=torch.float64)
        if self.linear and self._jacobian is not None:
            return self._jacobian
        operator, m = self.operator, self.data.size
        self.calls += m
        rows = []
        with torch.enable_grad():
            for rows_of_part in torch.arange(m).split(256):  # the identity itself may be too large
                part = torch.zeros(len(rows_of_part), m, dtype=torch.float64)
                part[torch.arange(len(part)), rows_of_part] = 1.0
                points = v.detach().expand(len(part), -1).clone().requires_grad_()
                w = self.data.whiten(operator(self.model.model(points)))
                rows.append(torch.autograd.grad((w * part).sum(), points)[0])
        jacobian = torch.cat(rows)
        if self.linear:
            self._jacobian = jacobian
        return jacobian


class OperatorModel:
    """w^ and p^ of the module.

    Arguments:
        low: w_low.
        delta: the model of delta; None before the first evaluation.
        additive: what an affine delta leaves; None for nothing.
        spread: what Var delta is multiplied by.
    """

    def __init__(
        self,
        low: LowFidelity,
        delta: AffineDelta | KernelDelta | None,
        additive: AdditiveResidual | None = None,
        spread: float = 1.0,
    ) -> None:
        self.low, self.delta, self.additive, self.spread = low, delta, additive, spread
        self.model, self.data = low.model, low.data

    @property
    def closed_form(self) -> bool:
        """Whether p^ is Gaussian, but for Var delta."""
        return (
            self.low.linear
            and self.additive is None
            and not isinstance(self.delta, KernelDelta)
            and self.model.gaussian
            and self.data.gaussian
        )

    def predict(self, v: Tensor) -> Tensor:
        """w^(v), (batch, m), differentiable."""
        if self.additive is None:
            w = self.low(v)
        else:
            x = self.model.model(v)  # once for both
            w = self.low(v) if self.low.linear else self.low.at_model(x)
            w = w + self.additive.mean(x.flatten(1))
        return w if self.delta is None else w + self.delta.mean(v)

    def jacobian(self, v: Tensor) -> Tensor:
        """d w^ / d v at one v (D,), (m, D)."""
        jacobian = self.low.jacobian(v)
        if self.delta is not None:
            jacobian = jacobian + self.delta.jacobian(v)
        if self.additive is not None:
            at = self.additive.jacobian(self.model.model(v[None]).flatten(1)[0])
            jacobian = jacobian + (
                at @ self.model.root if self.model.root.ndim == 2 else at * self.model.root
            )
        return jacobian

    def log_likelihood(self, v: Tensor) -> Tensor:
        """log p^(y given x), (batch,), differentiable."""
        residual = self.data.observed - self.predict(v)
        if self.delta is None or not self.data.gaussian:
            return self.data.log_likelihood(residual)
        basis = self.delta.basis
        along, beside = self.variance(v)
        inside = residual @ basis
        outside = (residual.square().sum(1) - inside.square().sum(1)).clamp(min=0)
        rest = self.data.size - basis.shape[1]
        narrow = self.data.log_likelihood(residual) + 0.5 * residual.square().sum(1)
        # A kernel far from all evaluations knows nothing and would take the volume for posterior:
        # the mean of the log-likelihood, not the log of its mean, keeps draws near what is known.
        volume = along if isinstance(self.delta, KernelDelta) else torch.log1p(along)
        wide = (
            (inside.square() / (1 + along) + volume).sum(1)
            + outside / (1 + beside)
            + rest * torch.log1p(beside)
        )
        return narrow - 0.5 * wide

    def variance(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Var delta along each vector of delta's basis, (batch, k), and beside them,
        (batch,).
        """
        assert self.delta is not None, "delta has a variance once it is fitted"
        along, beside = self.delta.variance(v)
        return self.spread * along, self.spread * beside

    def log_density(self, v: Tensor) -> Tensor:
        """log p^(v), not normalised, (batch,), differentiable."""
        return self.model.log_prior(v) + self.log_likelihood(v)

    def value_and_score(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """log p^(v) and its gradient; -inf and 0 where it is not finite."""
        with torch.enable_grad():
            v = v.detach().requires_grad_()
            value = self.log_density(v)
            (score,) = torch.autograd.grad(value.sum(), v)
        good = value.isfinite() & score.isfinite().all(1)
        return torch.where(good, value.detach(), -torch.inf), torch.where(good[:, None], score, 0.0)

    def at_models(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log p^ as a density of models x, (batch,), and its gradient, (batch, *model), where and
        in what precision x is.
        """
        value, score = self.value_and_score(self.model.whiten(x))
        score = self.model.push(score).to(x).reshape(x.shape)
        return (value - self.model.log_determinant).to(x), score
