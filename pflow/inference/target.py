"""The unnormalised posterior p~(x) = p(y_obs given x) p(x), and the ledger of its cost.

One evaluation = one forward of the high-fidelity operator *with* its gradient, for one x. Values
without a gradient are counted separately, as forwards. Nothing differentiates through a target: an
evaluation returns the value and the score, and objectives build their gradients from these two, so
an operator in another language, process or device costs no more calls.

Random subsets. Where F(x) = (F_1(x), ..., F_S(x)) for S sources with independent noise, each point
may use k random sources B(x) only:

    log L^(x) = log L(y) + (S / k) (log L(y with F_s(x) for s in B) - log L(y)),
    E_B[log L^(x)] = log L(x),

where log L(y) stands for a prediction without residual; so for its gradient. One such point costs k
/ S evaluations. B depends on the point and a seed alone: a repeated evaluation gives the same
result.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pflow.errors import PflowError
from pflow.inference.evaluation import STORED_FIELDS, Evaluation, Ledger
from pflow.inference.recall import RecallCheck
from pflow.problems.base import Problem
from pflow.storage.evaluations import EvaluationStore

__all__ = ["Target"]


@dataclass(frozen=True)
class Target:
    """p~(x) = p(y_obs given x) p(x) for one observation.

    Arguments:
        problem: prior, operators and noise.
        y: the observation, (1, *data).
        store: earlier evaluations; they are reused, and new ones are added.
        recall: which of the reused ones are evaluated again, to see whether they still hold.
        gradient: False for values alone: scores are then zero and not computed.
        sources: k, the number of random sources per point; 0 for all of them.
        seed: of the random sources.

    Raises:
        PflowError: the operator has no (or not so many) sources, or its noise is not independent
            between them.

    Example:
        >>> from pflow.problems import Gaussian
        >>> problem = Gaussian()
        >>> x, y = problem.simulate(3, torch.Generator().manual_seed(0))
        >>> target = Target(problem, y[:1])
        >>> target.evaluate(x).score.shape
        torch.Size([3, 64])
        >>> target.ledger.points  # evaluations spent
        3
    """

    problem: Problem
    y: Tensor
    gradient: bool = True
    ledger: Ledger = field(default_factory=Ledger)
    store: EvaluationStore = field(default_factory=lambda: EvaluationStore(None))
    sources: int = 0
    seed: int = 0
    recall: RecallCheck = field(default_factory=RecallCheck)

    def __post_init__(self) -> None:
        if not self.sources:
            return
        total = getattr(self.problem.high_fidelity, "sources", 1)
        if not 1 <= self.sources <= total:
            way_out = (
                f"choose 1 to {total}"
                if total > 1
                else "remove it, or give the operator `sources` and `forward_sources`"
            )
            raise PflowError(
                f"`sources` (={self.sources}) must be at most the number of sources of the operator"
                f" (={total}): {way_out}"
            )
        self.ledger.share = self.sources / total
        self._require_independent_sources(total)

    @cached_property
    def summary(self) -> Tensor:
        """The summary of y that conditions the flow, (1, *summary)."""
        return self.problem.summary(self.y)

    def recalled(self, rows: dict[str, np.ndarray]) -> Evaluation:
        """Rows of a store as an evaluation; costs nothing."""
        return Evaluation.from_rows(rows, self.y.device)

    def check_recalled(self, rows: dict[str, np.ndarray], prior: bool = True) -> None:
        """Evaluate some rows of a store again: about 1 %, at least one a run. They cost operator
        time and count as checked, not as evaluations.

        Raises:
            PflowError: the operator answers otherwise.
        """
        chosen = self.recall.choose(rows["x"])
        if not chosen:
            return
        stored = {name: values[chosen] for name, values in rows.items()}
        x = torch.from_numpy(stored["x"]).to(self.y.device)
        answers = self._ask(x, stored["x"], 0, prior)
        self.ledger.checked += len(chosen)
        self.recall.compare(stored, answers, self.store.rows if len(self.store) else rows)

    def evaluate(self, x: Tensor, round_number: int = 0, prior: bool = True) -> Evaluation:
        """Value and score at each of the points `x`, (batch, *model); costs `batch` evaluations, or
        the share of them that subsets cost.

        Arguments:
            x: (batch, *model).
            round_number: which state of the flow drew the points, for the store.
            prior: False for the likelihood alone, which saves the time of a prior that is a flow:
                `score` is then its gradient, and `log_prior` NaN.
        """
        x = x.detach()
        points = x.cpu().numpy()
        rows = self.store.find(points)
        if not prior and (known := rows >= 0).any():  # rows with a prior have another score
            log_prior = self.store.take(rows[known], ["log_prior"])["log_prior"]
            rows[known] = np.where(np.isnan(log_prior), rows[known], -1)
        new = [k for k, row in enumerate(rows.tolist()) if row < 0]
        if (earlier := rows[(rows >= 0) & (rows < self.store.loaded)]).size:
            self.check_recalled(self.store.take(earlier, STORED_FIELDS), prior)
        if new:
            part = new if len(new) < len(points) else slice(None)  # where all are new, no copy
            rows[part] = self.store.append(self._ask(x[part], points[part], round_number, prior))
        evaluated = Evaluation.from_rows(self.store.take(rows, STORED_FIELDS), x.device, prior)
        self.ledger.rows.append(rows)
        self.ledger.points += len(points)
        self.ledger.recalled += len(points) - len(new)
        self.ledger.invalid += evaluated.valid.tolist().count(False)
        return evaluated

    def seen(self, x: Tensor) -> Tensor | None:
        """The sources of each of the points `x`, 1 or 0, (batch, S); None if all points use all."""
        if not self.sources:
            return None
        chosen = torch.from_numpy(
            np.stack([self._subset(point) for point in x.detach().cpu().numpy()])
        )
        return (
            torch.zeros(len(x), self.problem.high_fidelity.sources)
            .scatter(1, chosen, 1.0)
            .to(x.device)
        )

    def _ask(
        self, x: Tensor, points: np.ndarray, round_number: int, prior: bool
    ) -> dict[str, np.ndarray]:
        """One call of the operator for the whole batch, forward and, unless values are enough,
        gradient. Nothing is asked at points that are NaN or infinite: their answers are NaN.
        """
        finite = np.isfinite(points).reshape(len(points), -1).all(1)
        if not finite.all():
            return self._ask_where(finite, x, points, round_number, prior)
        began = time.perf_counter()
        with torch.set_grad_enabled(self.gradient):
            x = x.requires_grad_(self.gradient)
            if self.sources:
                prediction, log_likelihood = self._estimate(x, points)
            else:
                prediction = self._apply(self.problem.high_fidelity, x)
                log_likelihood = self.problem.log_likelihood(self.y, prediction)
            log_prior = self.problem.log_prior(x) if prior else torch.zeros_like(log_likelihood)
            score = (
                torch.autograd.grad((log_likelihood + log_prior).sum(), x)[0]
                if self.gradient
                else torch.zeros_like(x)
            )
        seconds = time.perf_counter() - began
        self.ledger.seconds += seconds
        answers = {
            "score": score,
            "log_likelihood": log_likelihood.detach(),
            "log_prior": log_prior.detach() if prior else torch.full_like(log_prior, torch.nan),
            "prediction": prediction.detach(),
        }
        return {
            "x": points,
            **{name: values.cpu().numpy() for name, values in answers.items()},
            "seconds": np.full(len(points), seconds / len(points), dtype=np.float32),
            "round": np.full(len(points), round_number, dtype=np.int32),
        }

    def _ask_where(
        self, finite: np.ndarray, x: Tensor, points: np.ndarray, round_number: int, prior: bool
    ) -> dict[str, np.ndarray]:
        """The answers of `_ask` at the finite points, NaN at the others."""
        count, data_shape = len(points), self.problem.data_shape
        shapes = {"score": points.shape, "prediction": (count, *data_shape)}
        answers = {
            name: np.full(shapes.get(name, (count,)), np.nan, dtype=points.dtype)
            for name in STORED_FIELDS
        }
        answers |= {
            "x": points,
            "seconds": np.zeros(count, dtype=np.float32),
            "round": np.full(count, round_number, dtype=np.int32),
        }
        if finite.any():
            asked = self._ask(x[torch.from_numpy(finite)], points[finite], round_number, prior)
            for name, values in asked.items():
                answers[name][finite] = values
        return answers

    @torch.no_grad()
    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(F(x), log p~(x)) without gradients, NaN where x is not finite; costs `batch`
        forwards.
        """
        finite = x.flatten(1).isfinite().all(1)
        if not finite.all():
            prediction = x.new_full((len(x), *self.problem.data_shape), torch.nan)
            log_density = x.new_full((len(x),), torch.nan)
            if finite.any():
                prediction[finite], log_density[finite] = self.predict(x[finite])
            return prediction, log_density
        began = time.perf_counter()
        prediction = self._apply(self.problem.high_fidelity, x)
        log_density = self.problem.log_likelihood(self.y, prediction) + self.problem.log_prior(x)
        self.ledger.forwards += len(x)
        self.ledger.seconds += time.perf_counter() - began
        return prediction, log_density

    def _apply(self, operator: Callable[..., Tensor], x: Tensor, *more: Tensor) -> Tensor:
        """F(x) where and in what precision the operator works (its `device` and `dtype`, if it has
        them), brought back to where x is.
        """
        wanted = {
            name: getattr(self.problem.high_fidelity, name, None) for name in ("device", "dtype")
        }
        moved = x.to(**{name: value for name, value in wanted.items() if value is not None})
        return operator(moved, *(tensor.to(moved.device) for tensor in more)).to(x)

    def _estimate(self, x: Tensor, points: np.ndarray) -> tuple[Tensor, Tensor]:
        """F(x) for the sources that x sees, y_obs elsewhere, (batch, *data), and log L^ of the
        module, (batch,).
        """
        chosen = torch.from_numpy(np.stack([self._subset(point) for point in points]))
        predicted = self._apply(self.problem.high_fidelity.subset, x, chosen)
        index = (
            chosen.to(x.device)
            .view(*chosen.shape, *(1 for _ in self.y.shape[2:]))
            .expand_as(predicted)
        )
        prediction = self.y.to(x).expand(len(x), *self.y.shape[1:]).scatter(1, index, predicted)
        perfect = self.problem.log_likelihood(self.y, self.y)
        seen = self.problem.log_likelihood(self.y, prediction)
        return prediction, perfect + (seen - perfect) / self.ledger.share

    def _subset(self, point: np.ndarray) -> np.ndarray:
        """B(x), sorted, (k,)."""
        digest = hashlib.blake2b(point.tobytes(), digest_size=8).digest()
        generator = np.random.default_rng([self.seed, int.from_bytes(digest, "big")])
        return np.sort(
            generator.choice(self.problem.high_fidelity.sources, self.sources, replace=False)
        )

    @torch.no_grad()
    def _require_independent_sources(self, total: int) -> None:
        """Two halves of the sources must add up in the log-likelihood, or subsets would be
        biased.
        """
        half = total // 2
        residual = (
            0.1
            * self.y.std()
            * torch.randn(self.y.shape, generator=torch.Generator().manual_seed(0)).to(self.y)
        )
        first, second = residual.clone(), residual.clone()
        first[:, half:], second[:, :half] = 0, 0
        perfect, both, one, other = (
            self.problem.log_likelihood(self.y, self.y + r)
            for r in (torch.zeros_like(residual), residual, first, second)
        )
        gap, scale = (
            float((both - perfect) - (one - perfect) - (other - perfect)),
            float((both - perfect).abs()),
        )
        if not abs(gap) <= 1e-3 * scale + 1e-6 * float(perfect.abs()):
            raise PflowError(
                f"`sources` (={self.sources}) needs noise that is independent between sources, and"
                f" the log-likelihoods of two halves of them miss that of all by {gap:.3g} nats of"
                f" {scale:.3g}: remove `sources`"
            )
