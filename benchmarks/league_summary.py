"""What the league says in short, as Markdown: ours beside the best rival, beside the goals, methods
side by side.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from league_problems import floor_of
from league_table import BUDGETS, FAMILY, OURS, in_order, medians, ranked, wins

__all__ = ["GOALS", "Goal", "compared", "goals", "summary"]

Found = dict[tuple[str, str, int], dict[str, float]]


class Goal(NamedTuple):
    """What a posterior should reach: KL in nats (one number), or the errors of means and standard
    deviations, after `evaluations`.
    """

    problem: str
    evaluations: int
    most: tuple[float, ...]


GOALS = tuple(
    Goal(problem, evaluations, most)
    for problem, marks in {
        "gaussian-64": {64: (0.05,), 128: (0.001,)},
        "lognormal-64": {64: (2,), 128: (0.3,), 256: (0.1,)},
        "lognormal-64-1.0": {384: (0.9,), 768: (0.4,)},
        "lognormal-64-1.5": {384: (1.6,), 768: (0.8,)},
        "gaussian-1024": {128: (15,), 1100: (0.2,)},
        "traveltime": {256: (0.12, 0.05), 512: (0.07, 0.05)},
        "poisson-16": {64: (0.05, 0.08), 256: (0.03, 0.05)},
        "poisson-8": {512: (0.1, 0.1)},
        "darcy": {16: (0.1, 0.05), 64: (0.06, 0.045), 128: (0.035, 0.04)},
        "rosenbrock": {16: (0.02,), 32: (0.001,)},
        "bimodal": {64: (0.05,), 256: (0.01,)},
    }.items()
    for evaluations, most in marks.items()
)


def summary(rows: list[dict[str, Any]]) -> str:
    """Ours and the best rival of each cell, the errors of an exact posterior below the name, and
    the share of cells that ours wins; ours is bold there.
    """
    found = medians(rows)
    lines = _header("problem", *BUDGETS)
    won = answered = alone = 0
    for problem in in_order(rows):
        cells = []
        for budget in BUDGETS:
            mine, rival = _pair(found, problem, budget)
            better = mine and rival and wins(problem, mine[0], rival[0])
            answered += bool(mine and rival)
            won += bool(better)
            alone += bool(mine and not rival)
            own = "-" if mine is None else _shown(mine[2])
            own = f"**{own}**" if better else own
            cells.append(own + ("" if rival is None else f"; {_shown(rival[2])} {rival[1]}"))
        floor = floor_of(problem)
        name = problem if floor is None else f"{problem} ({floor[0]:.2g}, {floor[1]:.2g})"
        lines.append(_line(name, *(cell.replace("_", " ") for cell in cells)))
    share = f" ({won / answered:.0%})" if answered else ""
    lines += [
        "",
        f"`{OURS}` is the best or within the error of the best in {won} of {answered} cells{share};"
        f" in {alone} more no rival has an answer.",
    ]
    return "\n".join(lines)


def goals(rows: list[dict[str, Any]]) -> str:
    """Goal, ours, and the best rival at the largest budget of the league that the goal pays."""
    found = medians(rows)
    lines = _header("problem", "evaluations", "goal", "ours", "best rival")
    met = known = 0
    for goal in GOALS:
        budget = max(b for b in BUDGETS if b <= goal.evaluations)
        mine, rival = _pair(found, goal.problem, budget)
        own = "-"
        if mine is not None:
            reached = all(
                value <= most for value, most in zip(_values(mine[2]), goal.most, strict=True)
            )
            own = f"**{_shown(mine[2])}**" if reached else _shown(mine[2])
            met, known = met + reached, known + 1
        at = (
            f"{goal.evaluations}"
            if budget == goal.evaluations
            else f"{goal.evaluations} ({budget})"
        )
        other = "none" if rival is None else f"{_shown(rival[2])} {rival[1]}".replace("_", " ")
        lines.append(_line(goal.problem, at, ", ".join(f"{m:g}" for m in goal.most), own, other))
    return "\n".join([*lines, "", f"{met} of {known} goals that have been run are met."])


def compared(rows: list[dict[str, Any]], methods: list[str]) -> str:
    """Medians of these methods, one line a problem and method."""
    found = medians(rows)
    lines = _header("problem", "method", *BUDGETS)
    for problem in in_order(rows):
        for method in methods:
            cells = [found.get((problem, method, budget)) for budget in BUDGETS]
            if any(cells):
                shown = ("-" if errors is None else _shown(errors) for errors in cells)
                lines.append(_line(problem, method.replace("_", " "), *shown))
    return "\n".join(lines)


def _pair(found: Found, problem: str, budget: int) -> tuple[tuple | None, tuple | None]:
    """Ours and the best rival in a cell, as `ranked` gives them."""
    ranking = ranked(found, problem, budget)
    return (
        next((entry for entry in ranking if entry[1] == OURS), None),
        next((entry for entry in ranking if entry[1] not in FAMILY and entry[0] < math.inf), None),
    )


def _values(errors: dict[str, float]) -> tuple[float, ...]:
    divergence = errors["kl_reverse_nats"]
    if math.isfinite(divergence):
        return (divergence,)
    return errors["mean_error_posterior_std"], errors["std_error"]


def _shown(errors: dict[str, float]) -> str:
    values = _values(errors)
    if len(values) == 2:
        return f"{values[0]:.2g}, {values[1]:.2g}"
    if values[0] >= 100:
        return f"{values[0]:.0f}"
    return f"{values[0]:.2g}" if values[0] >= 1e-4 else "< 1e-4"


def _header(*names: object) -> list[str]:
    return [_line(*names), "|" + "---|" * len(names)]


def _line(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
