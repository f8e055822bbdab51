"""Rows of the league: CSV in and out, medians over seeds, the order of methods in a cell."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from league_problems import PROBLEMS, floor_of

__all__ = [
    "BUDGETS",
    "COLUMNS",
    "OURS",
    "append",
    "budget_of",
    "in_order",
    "medians",
    "ranked",
    "read",
    "score",
    "table",
    "wins",
]

BUDGETS = (16, 32, 64, 128, 256, 512, 1024)
KEY = ("problem", "problem_seed", "seed", "method")
ERRORS = ("kl_reverse_nats", "mean_error_posterior_std", "std_error", "sliced_wasserstein")
COLUMNS = (*KEY, "evaluations", *ERRORS, "seconds")
OURS = "surrogate"  # with low fidelity, from random weights: what stands against the rivals
FAMILY = ("surrogate", "surrogate_no_low", "surrogate_pretrained")
RESTARTED = (
    *FAMILY,
    "score_replay",
    "score_replay_random",
    "path_gradient",
    "path_gradient_random",
    "seed_paper",
)
KL_ERROR = 0.01  # nats, of the judging draws
TOLERANCE = 1.1  # or this factor, which two seeds of one method differ by


def read(file: Path) -> list[dict[str, Any]]:
    """The rows that are there; missing errors are NaN."""
    if not file.exists():
        return []
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row |= {name: int(row[name]) for name in ("problem_seed", "seed", "evaluations")}
        row |= {name: float(row[name] or "nan") for name in (*ERRORS, "seconds")}
    return rows


def append(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows at the end, so that an interruption loses nothing."""
    file.parent.mkdir(exist_ok=True)
    new = not file.exists()
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
        if new:
            writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def budget_of(evaluations: int) -> int:
    """The smallest budget that pays so many evaluations; beyond all of them the number itself."""
    return next((budget for budget in BUDGETS if evaluations <= budget), evaluations)


def in_order(rows: list[dict[str, Any]]) -> list[str]:
    """The problems that have rows, in the league's order."""
    there = {row["problem"] for row in rows}
    return [name for name in PROBLEMS if name in there]


def medians(rows: list[dict[str, Any]]) -> dict[tuple[str, str, int], dict[str, float]]:
    """Median errors of (problem, method, budget) over seeds.

    A method has spent at most the budget: its last state before it counts, so that Laplace after 80
    evaluations is a candidate at 128 and at 256.
    """
    curves: dict[tuple, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        curves[tuple(row[name] for name in KEY)].append(row)
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = defaultdict(list)
    for (problem, _, _, method), points in curves.items():
        for budget in BUDGETS:
            paid = [row for row in points if row["evaluations"] <= budget]
            # our methods start anew for each budget: a budget that was not run has no entry
            own = method not in RESTARTED or any(row["evaluations"] > budget / 2 for row in paid)
            if paid and own:
                last = max(paid, key=lambda row: row["evaluations"])
                found[problem, method, budget].append(last)
    return {
        key: {
            name: median(_worst_if_nan(row[name]) for row in group) for name in (*ERRORS, "seconds")
        }
        for key, group in found.items()
    }


def _worst_if_nan(value: float) -> float:
    """NaN has no order."""
    return math.inf if math.isnan(value) else value


def score(errors: dict[str, float]) -> float:
    """What ranks a method: KL, or the mean of both moments' errors without one."""
    if math.isfinite(errors["kl_reverse_nats"]):
        return errors["kl_reverse_nats"]
    return (errors["mean_error_posterior_std"] + errors["std_error"]) / 2


def ranked(
    found: dict[tuple[str, str, int], dict[str, float]], problem: str, budget: int
) -> list[tuple[float, str, dict[str, float]]]:
    """(score, method, errors) of a cell, the best first.

    Methods without a density have no KL; a cell ranks by KL where any has one, and they stand
    last.
    """
    cell = {m: e for (p, m, b), e in found.items() if (p, b) == (problem, budget)}
    by_kl = any(math.isfinite(errors["kl_reverse_nats"]) for errors in cell.values())
    values = []
    for method, errors in cell.items():
        value = score(errors)
        if by_kl and not math.isfinite(errors["kl_reverse_nats"]):
            value = math.inf
        values.append((value, method, errors))
    return sorted(values, key=lambda entry: entry[:2])


def wins(problem: str, mine: float, best: float) -> bool:
    """Whether ours is the best or within the error of the best rival, given both scores."""
    floor = floor_of(problem)
    error = KL_ERROR if floor is None else sum(floor) / 2
    return mine <= max(best + error, TOLERANCE * best)


def table(rows: list[dict[str, Any]]) -> str:
    """Medians as Markdown, then the cells that ours wins, and every loss."""
    found = medians(rows)
    problems = in_order(rows)
    lines, losses, won, cells, alone = [], [], 0, 0, 0
    lines += ["| problem | budget | method | KL | mean | std | sliced W | s |", "|" + "---|" * 8]
    for problem in problems:
        for budget in BUDGETS:
            ranking = ranked(found, problem, budget)
            for _, method, e in ranking:
                numbers = " | ".join(f"{e[name]:.3g}" for name in (*ERRORS, "seconds"))
                lines.append(f"| {problem} | {budget} | {method} | {numbers} |".replace("inf", "-"))
            mine = next((entry for entry in ranking if entry[1] == OURS), None)
            rivals = [entry for entry in ranking if entry[1] not in FAMILY]
            if mine is None or not rivals:
                alone += mine is not None  # no rival has an answer for so few evaluations
                continue
            cells += 1
            best = rivals[0]
            if wins(problem, mine[0], best[0]):
                won += 1
            else:
                losses.append(f"{problem} at {budget}: ours {mine[0]:.4g}, {best[1]} {best[0]:.4g}")
    lines += ["", f"{OURS} is the best or within the error of the best in {won} of {cells} cells"]
    if cells:
        lines[-1] += f" ({won / cells:.0%})"
    lines.append(f"no rival has an answer in {alone} more cells")
    lines += ["losses:" if losses else "no losses", *(f"- {loss}" for loss in losses)]
    return "\n".join(lines)
