"""The figure of the benchmark: median accuracy against evaluations, one panel a problem, with
quartiles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from evaluations_table import at, curves

from pflow.figures.style import style

__all__ = ["draw"]

# Okabe and Ito: told apart with any colour vision; markers and dashes do it again in grey.
LOOKS = {
    ("score_replay", "pretrained"): ("score replay", "#0072B2", "-", "o"),
    ("score_replay", "random"): ("score replay, random start", "#0072B2", "--", "o"),
    ("path_gradient", "pretrained"): ("path gradients", "#009E73", "-", "s"),
    ("seed_paper", "pretrained"): ("paper's recipe", "#D55E00", "-", "^"),
    ("latent", "pretrained"): ("latent Gaussian", "#CC79A7", "-", "D"),
    ("importance", "pretrained"): ("importance, values alone", "#E69F00", "-", "v"),
    ("nuts", "pretrained"): ("NUTS", "#000000", "-", "x"),
    ("advi", "pretrained"): ("ADVI", "#56B4E9", ":", "<"),
    ("full_rank", "pretrained"): ("full-rank Gaussian VI", "#56B4E9", "-", ">"),
}
ERRORS = {
    "kl_reverse_nats": "KL(q || posterior), nats",
    "sliced_wasserstein": "sliced Wasserstein, posterior std",
}
FLOOR = 1e-3  # nats: KL is measured to about that, and can come out negative


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Two rows of panels: KL, which chains do not have, and a distance that all have."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    problems = list(dict.fromkeys(row["problem"] for row in rows))
    order = [
        name
        for name in (
            "rosenbrock",
            "bimodal",
            "gaussian-16",
            "gaussian-64",
            "lognormal-64",
            "gaussian-1024",
        )
        if name in problems
    ]
    with style():
        figure, axes = pyplot.subplots(
            2,
            len(order),
            figsize=(3.4 * len(order) + 0.6, 7.4),
            squeeze=False,
            sharey="row",
            layout="constrained",
        )
        for row, (error, label) in enumerate(ERRORS.items()):
            found = curves(rows, error)
            for panel, problem in zip(axes[row], order, strict=True):
                for key, look in LOOKS.items():
                    runs = {
                        name: points
                        for name, points in found.items()
                        if (name[0], name[3], name[4]) == (problem, *key)
                    }
                    for budget in sorted({name[5] for name in runs}):
                        _curve(
                            panel,
                            [points for name, points in runs.items() if name[5] == budget],
                            look,
                        )
                panel.set(xscale="symlog", yscale="log", xlim=(0, 4e4))
                panel.set_xscale("symlog", linthresh=16)
                panel.set_xticks([0, 100, 1000, 10_000], ["0", "100", "1000", "10⁴"])
                if row == 0:
                    panel.set_title(problem)
                else:
                    panel.set_xlabel("evaluations of F")
            axes[row][0].set_ylabel(label)
        handles = {line.get_label(): line for panel in axes.flat for line in panel.get_lines()}
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=min(len(handles), 1 + len(order)),
        )
        figure.savefig(file)
        pyplot.close(figure)


def _curve(
    panel: Any, runs: list[list[tuple[int, float]]], look: tuple[str, str, str, str]
) -> None:
    label, colour, dashes, marker = look
    grid = sorted({n for points in runs for n, _ in points})
    values = np.array([[at(points, n) for points in runs] for n in grid])
    kept = 2 * np.isfinite(values).sum(1) > len(runs)
    low, middle, high = np.maximum(np.nanquantile(values[kept], (0.25, 0.5, 0.75), axis=1), FLOOR)
    x = np.array(grid)[kept]
    panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    panel.plot(
        x,
        middle,
        dashes,
        color=colour,
        marker=marker,
        markersize=5,
        markerfacecolor="white" if dashes != "-" else colour,
        label=label,
    )
