"""Closed-form score matching in latent space: a frozen flow, a Gaussian latent, no optimiser.

With w the latent of the frozen flow T and p~_T(z) = p~(T^{-1}(z; y_obs)) |det dT^{-1}/dz| the
posterior in that space, each round draws M points of N(m, C), evaluates them once, and moves to the
Gaussian that matches the M scores best while staying close to the last one:

    minimise over (m', C')   Fisher divergence to the scores, weighted, + 2/lambda KL( N(m, C) ||
                             N(m', C') )

whose solution is closed (batch and match, Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei, Saul
2024, arXiv 2402.14758, section 3), with lambda = M D / round. Exact for Gaussian posteriors in the
limit; it has no step size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pflow.flows.base import Flow, standard_normal_log_density
from pflow.flows.latent import LatentGaussian
from pflow.inference.target import Target
from pflow.objectives.best_state import BestState
from pflow.objectives.stopping import Stopping
from pflow.objectives.target_objective import TargetObjective
from pflow.objectives.valid_draws import require_valid

__all__ = ["BatchAndMatch", "match_scores"]


class BatchAndMatch(TargetObjective):
    """The Gaussian latent of a `LatentGaussian` flow with a dense covariance, by rounds of
    closed-form updates.

    Arguments:
        target: p~ and its ledger.
        batch: M, draws a round.
        stopping: budget and targets.
    """

    def __init__(self, target: Target, batch: int, stopping: Stopping) -> None:
        super().__init__(target, stopping)
        self.batch = batch
        self.round = 0
        self.best = BestState(batch)

    def begin(self, flow: Flow, generator: torch.Generator) -> bool:
        self.stop_reason = self.stopping.reason(self.target.ledger.points)
        if self.stop_reason and self.best.settle(flow):
            self.stop_reason += "; the run had left a better state behind, which was put back"
        return bool(self.stop_reason)

    def loss(
        self, flow: LatentGaussian, generator: torch.Generator
    ) -> tuple[None, dict[str, float]]:
        """One round; there is no loss to differentiate."""
        self.round += 1
        n = min(self.batch, self.stopping.points - self.target.ledger.points)
        with torch.no_grad():
            w = flow.draw_latent(n, generator)
            z, latent_log_determinant = flow.latent(w.flatten(1))
        z = z.requires_grad_(True)
        x, log_determinant = flow.base.inverse(z.view(n, *flow.model_shape), self.target.summary)
        drawn = self.target.evaluate(x.detach(), self.round)
        require_valid(drawn, self.target.problem)
        log_q = standard_normal_log_density(w) - latent_log_determinant - log_determinant.detach()
        self.stopping.record(drawn, log_q)
        self.best.see(flow, (drawn.log_density - log_q)[drawn.valid])
        pulled = (x * drawn.score.nan_to_num(0.0, 0.0, 0.0)).flatten(1).sum(1) + log_determinant
        (score,) = torch.autograd.grad(pulled.sum(), z)
        z, score = z.detach()[drawn.valid].double(), score[drawn.valid].double()
        factor = flow.latent.factor.detach().double()
        strength = len(z) * z.shape[1] / self.round
        mean, covariance = match_scores(
            z, score, flow.latent.mean.detach().double(), factor @ factor.T, strength
        )
        flow.latent.set_moments(mean, covariance)
        return None, {"objective_nats": float((log_q - drawn.log_density)[drawn.valid].mean())}

    def fraction(self) -> float:
        return min(1.0, self.target.ledger.points / self.stopping.points)

    def state_dict(self) -> dict[str, Any]:
        return {
            "round": self.round,
            "stopping": self.stopping.state_dict(),
            "ledger": self.target.ledger.state_dict(),
            "best": self.best.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.round = state["round"]
        self.stopping.load_state_dict(state["stopping"])
        self.target.ledger.load_state_dict(state["ledger"])
        self.best.load_state_dict(state["best"])


def match_scores(
    z: Tensor, score: Tensor, mean: Tensor, covariance: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    r"""The batch-and-match update of N(mean, covariance) from draws and their scores.

    With the means :math:`\bar z, \bar g` and covariances C, Gamma of draws and scores, and l =
    `strength`,

    .. math::
        U &= l\,\Gamma + \tfrac{l}{1+l} \bar g \bar g^T, \quad V = \Sigma + l\,C + \tfrac{l}{1+l} (m
        - \bar z)(m - \bar z)^T \\ \Sigma' &= 2 V \left(I + (I + 4 U V)^{1/2}\right)^{-1}, \quad
        m' = \tfrac{1}{1+l} m + \tfrac{l}{1+l} \left(\Sigma' \bar g + \bar z\right).

    Returns:
        m' and Sigma', symmetric and positive definite.
    """
    z_mean, score_mean = z.mean(0), score.mean(0)
    share = strength / (1 + strength)
    z_centred, score_centred = z - z_mean, score - score_mean
    u = strength * score_centred.T @ score_centred / len(z) + share * torch.outer(
        score_mean, score_mean
    )
    v = (
        covariance
        + strength * z_centred.T @ z_centred / len(z)
        + share * torch.outer(mean - z_mean, mean - z_mean)
    )
    # with V = R R^T, V (I + (I + 4 U V)^(1/2))^(-1) = R (I + (I + 4 R^T U R)^(1/2))^(-1) R^T:
    # symmetric throughout
    root = torch.linalg.cholesky(v)
    values, vectors = torch.linalg.eigh(root.T @ u @ root)
    inner = vectors * (2 / (1 + (1 + 4 * values.clamp_min(0)).sqrt()))
    new = root @ (inner @ vectors.T) @ root.T
    new = (new + new.T) / 2
    return (1 - share) * mean + share * (new @ score_mean + z_mean), new
