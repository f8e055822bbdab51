"""Which method is best at an observation, and which observations are worst off."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import Any

from pflow.report.trust import LEVELS, verdict_of

__all__ = ["MANY", "best_method", "other_priors", "shown_observations", "worst_first"]

Metrics = Mapping[str, Sequence[Mapping[str, Any]]]  # of each method, one entry a finished seed

MANY, SHOWN = 50, 20  # of more observations than that, so many are shown one by one
# What decides between equal verdicts
BY = ("kl_reverse_nats", "sliced_wasserstein", "score_error", "held_out_nats")
UNUSABLE = LEVELS.index("do not use")


def best_method(metrics: Metrics, others: Collection[str] = ()) -> str:
    """The method with the best verdict of its worst seed. Of equals, the one with the smallest
    KL(q || posterior), then the nearest to a reference (sliced Wasserstein distance), then with the
    smallest score error, then with the smallest -log q over held-out pairs, medians over seeds;
    then the first.

    Arguments:
        metrics: of each method.
        others: methods under another prior than the experiment's. They answer another question, and
            are chosen only where no method under its own has a posterior that can be used.

    >>> best_method({
    ...     "amortized": [{"verdict": "do not use"}],
    ...     "scratch": [{"verdict": "trustworthy", "score_error": 0.2}],
    ...     "replay": [{"verdict": "trustworthy", "score_error": 0.1}],
    ... })
    'replay'
    """
    ranks = {method: _rank(seeds) for method, seeds in metrics.items()}
    usable = [m for m in ranks if m not in others and ranks[m][0] < UNUSABLE]
    return min(usable or ranks, key=lambda method: ranks[method])


def other_priors(methods: Mapping[str, Any], prior: Any) -> list[str]:
    """The methods whose settings name another prior than the experiment's."""
    return [
        method
        for method, entry in methods.items()
        if ((entry or {}).get("prior") or prior) != prior
    ]


def worst_first(observations: Mapping[str, Metrics], others: Collection[str] = ()) -> list[str]:
    """Observations by the rank of their best method, the worst ones first; those that no method has
    finished come last.
    """

    def rank(name: str) -> tuple[float, ...]:
        finished = {method: seeds for method, seeds in observations[name].items() if seeds}
        best = _rank(finished[best_method(finished, others)]) if finished else (math.inf,)
        return best if math.isfinite(best[0]) else (-math.inf,)

    return sorted(observations, key=rank, reverse=True)


def shown_observations(
    observations: Mapping[str, Metrics], others: Collection[str] = ()
) -> list[str]:
    """All of up to 50 observations; of more, the 20 that are worst off, the worst first."""
    few = len(observations) <= MANY
    return list(observations) if few else worst_first(observations, others)[:SHOWN]


def _rank(seeds: Sequence[Mapping[str, Any]]) -> tuple[float, ...]:
    verdict = verdict_of(seeds)
    level = math.inf if verdict is None else verdict["level"]
    return (level, *(_median(seeds, name) for name in BY))


def _median(seeds: Sequence[Mapping[str, Any]], name: str) -> float:
    values = [metrics[name] for metrics in seeds if name in metrics]
    return median(values) if values else math.inf
