"""Time limits of jobs in minutes, from the measured cost of the operator.

`check_operator` writes operator.json before long jobs are submitted. The settings of a job
determine its number of evaluations with gradient and of forwards. Without operator.json, and where
F is cheap, the configured minutes apply.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from pflow.config.experiment import ExperimentSettings

__all__ = ["MARGIN", "measured_minutes", "measured_seconds", "operator_calls"]

MARGIN = 3.0  # other nodes may be slower than the one that measured
START_MINUTES = 2.0
GRADIENTS_PER_STEP = 31  # of NUTS, with trees of depth five


def operator_calls(
    experiment: ExperimentSettings, stage: str, method: str | None = None, split: str = "train"
) -> tuple[int, int]:
    """(evaluations with gradient, forwards alone) of the high-fidelity operator in one job of a
    stage.

    Arguments:
        experiment: its settings.
        stage: simulate, finetune, sample or reference; others evaluate no F.
        method: of finetune and sample.
        split: of simulate; only `high_fidelity` pairs are expensive.
    """
    if stage == "simulate" and split == "high_fidelity":
        return 0, min(experiment.simulate.high_fidelity, experiment.simulate.shard_size)
    if stage == "finetune":
        assert method is not None, "fine-tuning is of a method"
        return getattr(experiment.finetune[method], "evaluations", 0), 0
    if stage == "sample":
        return (
            experiment.sample.score_draws,
            experiment.sample.draws + experiment.sample.prior_draws,
        )
    if stage == "reference" and experiment.reference.kind == "nuts":
        wanted = experiment.reference
        return GRADIENTS_PER_STEP * (wanted.chains * wanted.tune + wanted.draws), 0
    return 0, 0


def measured_minutes(operator_json: Path, evaluations: int, forwards: int = 0) -> int:
    """Minutes for a number of calls of F, with a margin; 0 without a measured cost.

    Arguments:
        operator_json: what `check_operator` wrote; it need not exist.
        evaluations: F with its gradient.
        forwards: F alone.
    """
    seconds = measured_seconds(operator_json, evaluations, forwards)
    return 0 if seconds is None else math.ceil(START_MINUTES + MARGIN * seconds / 60)


def measured_seconds(operator_json: Path, evaluations: int, forwards: int = 0) -> float | None:
    """Seconds for a number of calls of F; None without a measured cost."""
    try:
        cost = json.loads(operator_json.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    forward = cost.get("seconds_per_forward") or 0.0
    gradient = cost.get("seconds_per_gradient") or forward
    return evaluations * gradient + forwards * forward
