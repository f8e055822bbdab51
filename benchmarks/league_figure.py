"""The figure of the league: median error against budget, one panel a problem."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
from league_problems import floor_of
from league_table import BUDGETS, in_order, medians, score

from pflow.figures.style import style

__all__ = ["draw"]

# Okabe and Ito: told apart with any colour vision; markers and dashes do it again in grey.
LOOKS = {
    "surrogate": ("model of F", "#0072B2", "-", "o"),
    "surrogate_no_low": ("model of F, without low fidelity", "#0072B2", "--", "o"),
    "surrogate_pretrained": ("model of F, pretrained weights", "#0072B2", ":", "o"),
    "score_replay": ("score replay", "#009E73", "-", "s"),
    "score_replay_random": ("score replay, random weights", "#009E73", "--", "s"),
    "path_gradient": ("path gradients", "#CC79A7", "-", "D"),
    "path_gradient_random": ("path gradients, random weights", "#CC79A7", "--", "D"),
    "seed_paper": ("recipe of the paper", "#CC79A7", ":", "d"),
    "laplace": ("Laplace", "#D55E00", "-", "^"),
    "laplace_low_rank": ("Laplace, low rank", "#D55E00", "--", "^"),
    "laplace_score_fit": ("Laplace and score fit", "#E69F00", "-", "v"),
    "pathfinder": ("Pathfinder", "#E69F00", "--", "p"),
    "mgvi": ("MGVI", "#000000", "-", "x"),
    "mgvi_nifty": ("MGVI, NIFTy", "#000000", "--", "x"),
    "geovi": ("geoVI, NIFTy", "#000000", ":", "+"),
    "batch_and_match": ("batch and match", "#56B4E9", "-", "P"),
    "advi": ("ADVI", "#56B4E9", ":", "<"),
    "full_rank": ("full-rank Gaussian VI", "#56B4E9", "--", ">"),
    "pyvbmc": ("PyVBMC", "#999999", "-", "h"),
    "nuts": ("NUTS", "#999999", "--", "*"),
    "nuts_prior": ("NUTS, coordinates of the prior", "#999999", ":", "*"),
}
COLUMNS = 4
FLOORS = {True: 1e-3, False: 1e-2}  # what the judging draws can tell, of KL and of moments
CEILINGS = {True: 1e3, False: 3.0}


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """KL where the posterior's density is known, else the mean of both moments' errors, and what an
    exact posterior would be judged at.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = medians(rows)
    problems = [name for name in in_order(rows) if any(key[0] == name for key in found)]
    height = math.ceil(len(problems) / COLUMNS)
    with style():
        figure, axes = pyplot.subplots(
            height,
            min(COLUMNS, len(problems)),
            figsize=(13.5, 3.1 * height + 1.1),
            squeeze=False,
            sharex=True,
            layout="constrained",
        )
        handles: dict[str, Any] = {}
        for panel, problem in zip(axes.flat, problems, strict=False):
            _panel(panel, problem, found)
            handles |= {line.get_label(): line for line in panel.get_lines()}
        for panel in axes.flat[len(problems) :]:
            panel.set_axis_off()
        for panel in axes.flat[max(0, len(problems) - COLUMNS) : len(problems)]:
            panel.set_xlabel("evaluations of F")
            panel.tick_params(labelbottom=True)
        order = [label for label, *_ in LOOKS.values() if label in handles]
        figure.legend(
            [handles[label] for label in order], order, loc="outside lower center", ncols=5
        )
        figure.savefig(file)
        pyplot.close(figure)


def _panel(panel: Any, problem: str, found: dict[tuple[str, str, int], dict[str, float]]) -> None:
    mine = [errors for (name, _, _), errors in found.items() if name == problem]
    by_kl = any(math.isfinite(errors["kl_reverse_nats"]) for errors in mine)
    low, high = FLOORS[by_kl], CEILINGS[by_kl]
    for method, (label, colour, dashes, marker) in LOOKS.items():
        points = {}
        for budget in BUDGETS:
            errors = found.get((problem, method, budget))
            if errors is None or (by_kl and not math.isfinite(errors["kl_reverse_nats"])):
                continue
            points[budget] = min(max(score(errors), low), high)
        if points:
            face = colour if dashes == "-" else "white"
            panel.plot(
                list(points),
                list(points.values()),
                dashes,
                color=colour,
                marker=marker,
                markersize=5,
                markerfacecolor=face,
                linewidth=2.2 if method == "surrogate" else 1.2,
                zorder=3 if method == "surrogate" else 2,
                label=label,
            )
    floor = floor_of(problem)
    if floor is not None:
        panel.axhline(sum(floor) / 2, color="0.6", linewidth=0.8, label="_floor")
        panel.text(BUDGETS[0], sum(floor) / 2, "floor", color="0.4", va="bottom", fontsize="small")
    panel.set(xscale="log", yscale="log", ylim=(low / 1.4, high * 1.4), title=problem)
    panel.set_xticks(BUDGETS, [str(budget) for budget in BUDGETS], fontsize="small")
    panel.yaxis.set_major_formatter("{x:g}")  # the style shows mathematics as it is written
    panel.minorticks_off()
    panel.set_ylabel("KL(q || posterior), nats" if by_kl else "error of moments, posterior std")
