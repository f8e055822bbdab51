"""One round of score replay as three transitions of its state:

    state = evaluate_points(setup, state, flow, generator)         draw M points, evaluate and keep
    round = open_round(setup, state, flow, generator)              fit models to all points, set b
    state = close_round(setup, state, round, inner_loop, flow)     keep the round's weights, or undo

Between the last two the flow follows the round's model (`inner_loop`). Besides the target's ledger
and the window of `stopping`, they change the flow alone: it receives the best weights of all
rounds, of the round, or of its start.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pflow.flows.base import Flow
from pflow.inference.evaluation import Evaluation
from pflow.objectives.replay.evaluated_points import Evaluated
from pflow.objectives.replay.free_draws import draws_for_moments, flow_score, gradient
from pflow.objectives.replay.inner_loop import CHECK, CUT, InnerLoop, grown
from pflow.objectives.replay.likelihood_model import LikelihoodModel
from pflow.objectives.replay.lost_modes import SMALL, LostModes, find_lost_modes
from pflow.objectives.replay.posterior_model import TRUSTED, PosteriorModel
from pflow.objectives.replay.rounds import SMALLEST_DRAW, points_in_a_round
from pflow.objectives.replay.score_model import Metric, ScoreModel
from pflow.objectives.replay.state import REACH, ReplaySetup, ReplayState, Round
from pflow.objectives.replay.trust_region import reachable
from pflow.objectives.valid_draws import require_valid

__all__ = ["close_round", "evaluate_points", "open_round", "restore_round"]

# Unknowns up to which the posterior's values are modelled: beyond, no draw of the prior comes near
# it
MODELLED = 1024
LEAST_DAMPING = 0.3


# --- evaluate ---


def evaluate_points(
    setup: ReplaySetup, state: ReplayState, flow: Flow, generator: torch.Generator
) -> ReplayState:
    """Draw the points of a round, evaluate and keep them, and test the flow with them. The first
    round takes reused evaluations instead, where there are any.

    Raises:
        PflowError: most draws are invalid.
    """
    reused, target = setup.reused_evaluations, setup.target
    if state.rounds == 0 and reused is not None and reused.valid.any():
        return replace(state, evaluated=_with(setup, None, reused))
    asked = _size_of_round(setup, state)
    suspects = state.modes.suspects
    if suspects is not None and setup.points_left <= len(suspects) + 1:
        suspects = None
    n = asked - (0 if suspects is None else len(suspects))
    with torch.no_grad():
        x, log_q = flow.sample_with_log_prob(target.summary, n, generator)
    drawn = target.evaluate(x, state.rounds)
    require_valid(drawn, target.problem)
    setup.stopping.record(drawn, log_q, _score_errors(setup, state, flow, drawn))
    evaluated, modes = _with(setup, state.evaluated, drawn), state.modes
    if suspects is not None:
        at_suspects = suspects[:, :-1].view(len(suspects), *flow.model_shape)
        tested = target.evaluate(at_suspects, state.rounds)
        evaluated, modes = _with(setup, evaluated, tested), modes.tested(tested)
    state = replace(state, asked=asked, evaluated=evaluated, modes=modes)
    return _keep_best(state, flow, (drawn.log_density - log_q)[drawn.valid])


def _size_of_round(setup: ReplaySetup, state: ReplayState) -> int:
    """Points to ask for: constant where it is set, or where the posterior's model has draws,
    because modes are then tested in every round.
    """
    if setup.draw or state.tests_modes:
        return min(setup.draw or SMALLEST_DRAW, setup.points_left)
    evaluated = 0 if state.evaluated is None else len(state.evaluated)
    return points_in_a_round(evaluated, setup.points_left)


def _with(setup: ReplaySetup, before: Evaluated | None, drawn: Evaluation) -> Evaluated:
    new = Evaluated.of(drawn, setup.target.seen(drawn.x))
    return new if before is None else before.followed_by(new)


def _score_errors(
    setup: ReplaySetup, state: ReplayState, flow: Flow, drawn: Evaluation
) -> Tensor | None:
    """|S^T (grad log q - g)|^2 / D at valid draws, where it is a target and there is a metric."""
    if state.metric is None or setup.stopping.score_error is None:
        return None
    own = flow_score(flow, setup.target.summary, drawn.x[drawn.valid].flatten(1))
    gap = own - drawn.score[drawn.valid].flatten(1)
    return state.metric.pull(gap).square().mean(1)


def _keep_best(state: ReplayState, flow: Flow, log_weight: Tensor) -> ReplayState:
    """The best weights return to the flow where its fresh draws are clearly worse."""
    best = copy.copy(state.best)
    if best.see(flow, log_weight):
        return replace(state, best=best, reach=min(REACH, 1.5 * state.reach))
    assert best.weights is not None
    flow.load_state_dict(best.weights)
    return replace(state, best=best, reach=0.5 * state.reach, rejected=state.rejected + 1)


# --- open ---


def open_round(
    setup: ReplaySetup, state: ReplayState, flow: Flow, generator: torch.Generator
) -> Round:
    """The models of score and posterior, fitted to all points, and how far the flow follows."""
    summary, evaluated = setup.target.summary, state.evaluated
    assert evaluated is not None, "a round opens with evaluated points"
    start = copy.deepcopy(flow).requires_grad_(False)
    draws, log_q = draws_for_moments(flow, summary, generator)
    metric, bases = Metric(draws), _bases(setup, start)
    model = ScoreModel(evaluated.points, evaluated.scores, metric, bases, evaluated.seen)
    posterior = _posterior_model(setup, evaluated, model)
    judge = posterior if _may_judge(posterior, evaluated) else None
    most = max(2, (setup.draw or SMALLEST_DRAW) // 4)
    modes = find_lost_modes(judge, start, log_q, most, state.modes.confirmed)
    # on fresh draws, as in the loss: the tails of a flow can lie where no point has been evaluated
    gap = metric.pull(model.score(draws) - flow_score(flow, summary, draws))
    trusted = max(LEAST_DAMPING, 1 - model.error / model.flow_error)
    damping = min(trusted, reachable(metric.whiten(draws), gap, state.reach))
    opening = damping**2 * float(gap[: CHECK * setup.batch].square().mean())
    return Round(state.rounds + 1, start, model, posterior, modes, damping, opening)


def restore_round(
    setup: ReplaySetup, state: ReplayState, saved: dict[str, Any], flow: Flow
) -> Round:
    """The round that `saved` was taken of; `flow` gives the architecture alone."""
    start = copy.deepcopy(flow).requires_grad_(False)
    start.load_state_dict(saved["start"])
    model = ScoreModel.from_state(saved["model"], _bases(setup, start))
    assert state.evaluated is not None
    posterior = _posterior_model(setup, state.evaluated, model)
    modes = LostModes(**saved["modes"])
    return Round(
        saved["number"], start, model, posterior, modes, saved["damping"], saved["opening"]
    )


def _bases(setup: ReplaySetup, start: Flow) -> dict[str, Callable[[Tensor], Tensor]]:
    """Scores that need no operator: the flow's at the start of the round, and the prior's."""
    target, shape = setup.target, start.model_shape
    return {
        "flow": lambda x: flow_score(start, target.summary, x),
        "prior": lambda x: gradient(target.problem.log_prior, x, shape),
    }


def _posterior_model(
    setup: ReplaySetup, evaluated: Evaluated, model: ScoreModel
) -> PosteriorModel | None:
    points, target = evaluated.points, setup.target
    if points.shape[1] > MODELLED:
        return None
    affine = model.likelihood_affine()
    likelihood = LikelihoodModel(points, evaluated.values, model.metric, *affine)
    generator = torch.Generator().manual_seed(len(points))  # the same after a resume
    return PosteriorModel(likelihood, target.problem, target.summary, generator)


def _may_judge(posterior: PosteriorModel | None, evaluated: Evaluated) -> bool:
    """Whether the model of the posterior may say what the flow lacks: of noisy values only one that
    has averaged the noise away.
    """
    return evaluated.seen is None or _is_trusted(posterior)


def _is_trusted(posterior: PosteriorModel | None) -> bool:
    return posterior is not None and not posterior.likelihood.error > TRUSTED


# --- close ---


def close_round(
    setup: ReplaySetup, state: ReplayState, round: Round, inner_loop: InnerLoop, flow: Flow
) -> ReplayState:
    """Leave the round's best weights in the flow, or its first ones if the round made the flow
    worse under either model.
    """
    gains_mode = round.modes.draws is not None
    if not gains_mode:
        flow.load_state_dict(inner_loop.weights)
    best, step_size = state.best, inner_loop.scale
    undone = not gains_mode and _is_further_from_model(setup, round, flow)
    undone = undone or _is_worse_under_posterior(round, flow)
    if undone:
        flow.load_state_dict(round.start.state_dict())
        step_size /= CUT
    elif gains_mode and _is_trusted(round.posterior):  # the ELBO of the past is no measure
        best = copy.copy(best)
        best.forget()
    return replace(
        state,
        rounds=round.number,
        best=best,
        modes=round.modes,
        metric=round.model.metric,
        tests_modes=round.posterior is not None and round.posterior.draws is not None,
        points_of_finished_rounds=setup.target.ledger.points + setup.reused_points,
        step_size=step_size,
        undone=state.undone + undone,
    )


def _is_further_from_model(setup: ReplaySetup, round: Round, flow: Flow) -> bool:
    """Whether the distance to the model has grown, measured as at the beginning."""
    summary, generator = setup.target.summary, torch.Generator().manual_seed(round.number)
    fresh = flow.sample(summary, CHECK * setup.batch, generator).flatten(1).detach()
    gap = round.model.metric.pull(round.residual(flow, summary, fresh))
    return grown(float(gap.square().mean()), round.opening)


def _is_worse_under_posterior(round: Round, flow: Flow) -> bool:
    """Whether the divergence from the model of the posterior has grown, where that is trusted."""
    if round.posterior is None or not _is_trusted(round.posterior):
        return False
    before = round.posterior.divergence(round.start, round.number)
    return not round.posterior.divergence(flow, round.number) < before + SMALL
