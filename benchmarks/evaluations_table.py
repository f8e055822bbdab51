"""Rows of the benchmark: CSV in and out, medians and quartiles, and the claims that they support or
not.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from accuracy import COLUMNS as ERRORS

__all__ = ["RESULTS", "at", "claims", "curves", "read", "table", "write"]

RESULTS = Path(__file__).parent / "results"
KEY = ("problem", "problem_seed", "seed", "method", "start", "budget")
COLUMNS = (
    "problem",
    "problem_seed",
    "seed",
    "method",
    "start",
    "evaluations",
    "kl_reverse_nats",
    "seconds",
    "budget",
    *ERRORS[1:],
)
MARKS = (0, 64, 128, 256, 500, 1000, 2000, 5000, 10_000)


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    """The whole file again, after each curve, so that an interruption loses nothing."""
    file.parent.mkdir(exist_ok=True)
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in sorted(
            rows,
            key=lambda row: (
                row["problem"],
                row["problem_seed"],
                row["method"],
                row["start"],
                row["seed"],
                row["budget"],
                row["evaluations"],
            ),
        ):
            writer.writerow(
                {
                    name: f"{value:.6g}" if isinstance(value, float) else value
                    for name, value in row.items()
                }
            )


def read(file: Path) -> list[dict[str, Any]]:
    """Rows of a file; none where there is no file, or one of an earlier form."""
    if not file.exists():
        return []
    with file.open(newline="") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            return []
        whole = ("problem_seed", "seed", "evaluations", "budget")
        numbers = ("seconds", *ERRORS)
        return [
            {
                **row,
                **{k: int(float(row[k])) for k in whole},
                **{k: float(row[k]) if row[k] else math.nan for k in numbers},
            }
            for row in reader
        ]


def curves(rows: Iterable[dict[str, Any]], error: str) -> dict[tuple, list[tuple[int, float]]]:
    """(evaluations, error) of each run, by KEY; runs without that error are left out."""
    found: dict[tuple, list[tuple[int, float]]] = {}
    for row in rows:
        if math.isfinite(row[error]):
            found.setdefault(tuple(row[name] for name in KEY), []).append(
                (row["evaluations"], row[error])
            )
    return {key: sorted(points) for key, points in found.items()}


def at(points: list[tuple[int, float]], evaluations: int) -> float:
    """The error that a run has with so many evaluations: that of its last measurement until then;
    NaN before the first and past its budget.
    """
    until = [value for n, value in points if n <= evaluations]
    return (
        until[-1]
        if until and (evaluations <= points[-1][0] or len(until) < len(points))
        else math.nan
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Median (quartiles) over seeds and problem seeds: KL where the method has a density, and
    beside it the error of the mean.
    """
    lines = []
    for error, title in (
        ("kl_reverse_nats", "KL(q || posterior), nats"),
        ("sliced_wasserstein", "sliced Wasserstein distance, posterior std"),
    ):
        lines.append(
            f"\n{title}: median and quartiles over seeds\n{'evaluations':46s}"
            + "".join(f"{n:>18d}" for n in MARKS)
            + f"{'at its end':>18s}"
        )
        by_method: dict[tuple, list] = {}
        for key, points in curves(rows, error).items():
            by_method.setdefault((key[0], *key[3:]), []).append(points)
        for (problem, method, start, budget), runs in by_method.items():
            columns = [[at(points, mark) for points in runs] for mark in MARKS] + [
                [points[-1][1] for points in runs]
            ]
            lines.append(
                f"{f'{problem} {method} {start} {budget}':46s}"
                + "".join(f"{_cell(values):>18s}" for values in columns)
            )
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    """Empty where not even half of the runs have a value."""
    known = [value for value in values if math.isfinite(value)]
    if 2 * len(known) <= len(values):
        return ""
    low, middle, high = (f"{value:.2g}" for value in np.quantile(known, (0.25, 0.5, 0.75)))
    return f"{middle} {low}-{high}" if len(known) > 1 else middle


def first_reaching(runs: list[list[tuple[int, float]]], limit: float) -> float:
    """Evaluations at which the median over runs is first no larger than `limit`; infinite if
    never.
    """
    for mark in sorted({n for points in runs for n, _ in points}):
        values = [value for value in (at(points, mark) for points in runs) if math.isfinite(value)]
        if 2 * len(values) > len(runs) and median(values) <= limit:
            return mark
    return math.inf


def _fewer(budget: int, needed: float) -> str:
    if not needed:
        return "the pretrained flow is there without any"
    return (
        f"score replay there at {needed:g}: {budget / needed:.0f} times fewer"
        if math.isfinite(needed)
        else "score replay does not get there"
    )


def claims(rows: list[dict[str, Any]]) -> str:
    """What the issue asks for, with what was measured: score replay from pretrained weights against
    the paper's recipe and NUTS.
    """
    lines = [
        "\nAgainst the paper's recipe at its own full budget (same KL; asked: 50 times fewer"
        " evaluations), and NUTS at 10 000 (asked: 10 times fewer)"
    ]
    kl, nuts_errors = curves(rows, "kl_reverse_nats"), ERRORS[1:]
    for problem in dict.fromkeys(row["problem"] for row in rows):

        def runs(found: dict, method: str, start: str = "pretrained", problem=problem) -> list:
            return [
                points
                for key, points in found.items()
                if (key[0], key[3], key[4]) == (problem, method, start)
            ]

        paper = runs(kl, "seed_paper")
        if paper:
            budget, reached = paper[0][-1][0], median(points[-1][1] for points in paper)
            needed = first_reaching(runs(kl, "score_replay"), reached)
            lines.append(
                f"{problem:14s} paper's recipe: {reached:.3g} nats at {budget};"
                f" {_fewer(budget, needed)}"
            )
        for error in nuts_errors:
            found = curves(rows, error)
            peer = runs(found, "nuts")
            if peer:
                reached = median(points[-1][1] for points in peer)
                needed = first_reaching(runs(found, "score_replay"), reached)
                lines.append(
                    f"{problem:14s} NUTS: {error} {reached:.3g} at {peer[0][-1][0]};"
                    f" {_fewer(peer[0][-1][0], needed)}"
                )
        warm, cold = (
            first_reaching(runs(kl, "score_replay", start), 1.0)
            for start in ("pretrained", "random")
        )
        if math.isfinite(warm):
            lines.append(
                f"{problem:14s} score replay reaches 1 nat at {warm:g} evaluations from pretrained"
                f" weights, at {cold:g} from random ones"
            )
    return "\n".join(lines)
