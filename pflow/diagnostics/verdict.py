"""One line of judgement from the numbers of metrics.json, by stated rules.

Each piece of evidence that applies gives a level and a sentence; the verdict is the worst level.
Evidence that cannot speak (k-hat in very many dimensions, a statistic that is not there) is named
and not counted, and without a single piece that could have found a wrong posterior nothing is
called trustworthy. The thresholds are settings: `evaluate.verdict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pflow.diagnostics.evidence import (
    Evidence,
    of_amortisation,
    of_missed_mass,
    of_predictions,
    of_reference,
    of_replicates,
    of_scores,
    of_weights,
)

__all__ = ["DO_NOT_USE", "TRUSTWORTHY", "WITH_CARE", "Judgement", "judge"]

TRUSTWORTHY, WITH_CARE, DO_NOT_USE = "trustworthy", "usable with care", "do not use"
LEVELS = (TRUSTWORTHY, WITH_CARE, DO_NOT_USE)


class Judgement(NamedTuple):
    """The verdict and why, the worst evidence first."""

    verdict: str
    reasons: list[str]


def judge(
    metrics: Mapping[str, Any],
    rules: Mapping[str, float],
    *,
    unknowns: int,
    fine_tuned: bool,
    linear: bool = False,
) -> Judgement:
    """The verdict on one posterior.

    Arguments:
        metrics: names and values as in metrics.json; what is absent is not judged.
        rules: thresholds by name, see `pflow.config.trust.Verdict`.
        unknowns: the dimension of x.
        fine_tuned: whether the flow was trained on this observation.
        linear: whether the operator is.
    """
    weights = of_weights(metrics, rules, unknowns)
    against_reference = of_reference(metrics, rules)
    evidence = [
        *against_reference,
        *weights,
        *of_scores(metrics, rules, against_reference),
        *of_missed_mass(metrics, rules, unknowns),
        *of_predictions(metrics, rules, bool(against_reference)),
    ]
    decided = bool(against_reference) or any(e.level >= 0 for e in weights)
    if (
        not decided
        and not linear
        and "score_error" in metrics
        and unknowns > rules["weights_dimension"]
    ):
        said = (
            "scores and misfit look only where the flow has draws, and an operator that is not"
            f" linear can have other modes in {unknowns} dimensions"
        )
        evidence.append(Evidence(1, f"{said}: a reference would tell, or runs from several starts"))
    evidence += of_replicates(metrics, rules)
    if not fine_tuned:
        evidence += of_amortisation(metrics, rules, decided)
    if metrics.get("zero_weight_fraction", 0) > 0:
        fraction = metrics["zero_weight_fraction"]
        level = 2 if fraction > rules["zero_weight_usable"] else 1
        evidence.append(
            Evidence(
                level,
                f"{fraction:.2g} of the draws have no posterior density or none that is finite:"
                " F is NaN or infinite there, or the prior has no density",
            )
        )
    decided = decided or "score_error" in metrics
    level = max((e.level for e in evidence if e.level >= 0), default=1)
    if not decided:
        level = max(level, 1)
        evidence.append(
            Evidence(
                1,
                "nothing here could have told a wrong posterior: neither weights nor reference nor"
                " scores",
            )
        )
    order = sorted(evidence, key=lambda e: -e.level)  # stable: the order above within a level
    return Judgement(LEVELS[level], [e.reason for e in order])
