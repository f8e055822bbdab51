"""Very many observations in one table, and how their verdicts are distributed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pflow.report.ranking import best_method, worst_first
from pflow.report.runs import Run, method_row
from pflow.report.trust import LEVELS, SYMBOLS, verdict_of

__all__ = ["finished_metrics", "overview", "summary_rows"]


def finished_metrics(runs: Sequence[Run]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The metrics of each observation and method that runs there, one entry a finished seed."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for run in runs:
        finished = found.setdefault(run.observation, {}).setdefault(run.method, [])
        if run.metrics is not None:
            finished.append(run.metrics)
    return found


def overview(
    runs: Sequence[Run],
    looks: Mapping[str, Mapping[str, Any]],
    metrics: Mapping[str, Any],
    others: Collection[str] = (),
) -> dict[str, Any]:
    """Counts of the verdicts of each method and of the best method, and a row for each observation,
    the worst first.

    Arguments:
        runs: of the experiment.
        looks: label and colour of each method.
        metrics: of `finished_metrics`.
        others: methods under another prior than the experiment's.
    """
    grouped: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        grouped.setdefault((run.observation, run.method), []).append(run)
    verdicts: dict[str, list[dict[str, Any] | None]] = {method: [] for method in looks}
    best: list[dict[str, Any] | None] = []
    rows: list[dict[str, Any]] = []
    for observation in worst_first(metrics, others):
        for method, seeds in metrics[observation].items():
            verdicts[method].append(verdict_of(seeds))
        finished = {method: seeds for method, seeds in metrics[observation].items() if seeds}
        if not finished:
            best.append(None)
            rows.append({"observation": observation, "row": None})
            continue
        chosen = best_method(finished, others)
        row = method_row(grouped[observation, chosen]) | dict(looks[chosen])
        best.append(row["verdict"])
        rows.append({"observation": observation, "row": row})
    counted = [dict(looks[method]) | _counts(of_method) for method, of_method in verdicts.items()]
    of_best: dict[str, Any] = {"label": "best of them", "colour": None}
    counted.append(of_best | _counts(best))
    return {"levels": list(zip(SYMBOLS, LEVELS, strict=True)), "counts": counted, "rows": rows}


def summary_rows(
    runs: Sequence[Run], looks: Mapping[str, Mapping[str, Any]], count: int
) -> list[dict[str, Any]]:
    """A row for each method over all observations: medians over all of its runs."""
    rows: list[dict[str, Any]] = []
    for method, look in looks.items():
        row = method_row([run for run in runs if run.method == method]) | dict(look)
        if row["verdict"] is not None:
            row["verdict"]["seeds"] = row["verdict"]["seeds"].replace("seeds", "runs")
        rows.append(row | {"observation": f"{count} observations"})
    return rows


def _counts(verdicts: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """How many there are of each level, and how many have not finished."""
    levels = Counter(None if verdict is None else verdict["level"] for verdict in verdicts)
    numbers = [levels[level] for level in range(len(LEVELS))]
    total = len(verdicts)
    return {
        "numbers": [(number, f"{100 * number / total:.0f} %") for number in numbers],
        "unfinished": levels[None],
    }
