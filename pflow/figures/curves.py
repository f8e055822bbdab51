"""Curves against cost: training objectives, pretraining losses, accuracy.

One evaluation is one forward of the high-fidelity operator with its gradient, for one x. All
methods are compared at equal evaluations; wall time comes second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from numpy.typing import ArrayLike

from pflow.figures.history import column, curve, median_over_seeds
from pflow.figures.palette import INK, line_style, method_label
from pflow.figures.style import new_figure, style

__all__ = [
    "accuracy_against_evaluations",
    "label_decades",
    "objective_curves",
    "pretraining_curves",
]

Histories = Mapping[str, Sequence[Mapping[str, ArrayLike]]]
THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"
FILLED = 0.16  # opacity of a band
LINEAR = 2.0  # nats up to which an objective is drawn linearly, where it can be small or negative


def objective_curves(
    histories: Histories,
    *,
    lowest: float | None = None,
    ylabel: str = "training objective (nats)",
    names: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Training objective of each fine-tuning method against evaluations.

    What one should see: every curve falls and flattens. A warm start begins lower and gets there
    sooner; a bump in the first steps means that the optimiser moved away from the warm start.
    Reverse-KL objectives cannot pass below the dashed line -log p(y) but for noise, and their
    distance from it is the KL divergence that is left.

    Arguments:
        histories: for each method the history of each seed, with the columns `evaluations` and
            `loss`.
        lowest: -log p(y) where it is known.
        ylabel: name and unit of the objective.
        names: all methods of the experiment, which fix the colours; by default those of
            `histories`.
        labels: what to call methods, where that is not their name.
    """
    names = list(histories) if names is None else names
    with style():
        figure = new_figure(7.2, 4.9)
        axes = figure.add_subplot()
        shown = []
        for name, seeds in histories.items():
            curves = [curve(seed, "loss") for seed in seeds]
            summary = median_over_seeds(curves)
            if len(summary.evaluations) < 2:  # no fine-tuning: no curve
                continue
            style_of_line = line_style(name, names)
            for evaluations, loss in curves:
                axes.plot(evaluations, loss, lw=0.7, alpha=0.35, **style_of_line)
            axes.plot(
                summary.evaluations,
                summary.median,
                label=method_label(name, labels),
                **style_of_line,
            )
            shown.append(summary)
        evaluations_axis(axes, [summary.evaluations for summary in shown])
        values = np.concatenate([summary.median for summary in shown] or [np.zeros(1)])
        if np.ptp(values) > 50:  # a start from random weights can be far off; keep the end readable
            floor = min(values.min(), np.inf if lowest is None else lowest)
            if floor > 10 * LINEAR:
                axes.set_yscale("log")
                axes.set_ylim(bottom=0.96 * floor)
                label_decades(axes)
            else:
                axes.set_yscale("asinh", linear_width=LINEAR)
                axes.yaxis.set_major_formatter(FuncFormatter(plain))
                axes.yaxis.set_minor_locator(NullLocator())
                axes.set_ylim(bottom=floor - 1.0)
        if lowest is not None:
            axes.axhline(
                lowest, color=INK, lw=1.2, ls="--", label="lowest possible, \N{MINUS SIGN}log p(y)"
            )
        axes.set_ylabel(ylabel)
        legend(figure)
    return figure


def pretraining_curves(
    histories: Mapping[str, Mapping[str, ArrayLike]],
    *,
    ylabel: str = "loss (nats per pair)",
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Training and validation loss of each pretrained flow against optimiser steps, one panel a
    flow.

    What one should see: both fall together and flatten. A validation loss that rises while the
    training loss falls is overfitting: more pairs, a smaller flow or earlier stopping. The ring
    marks the best validation loss.

    Arguments:
        histories: for each flow its history, with the columns `step`, `epoch`, `loss` and
            `validation_loss`.
        ylabel: name and unit of the loss.
        labels: what to call flows, where that is not their name.
    """
    with style():
        columns = max(1, min(3, len(histories)))
        rows = max(1, -(-len(histories) // columns))
        figure = new_figure(max(7.2, 4.2 * columns), 3.6 * rows)
        for place, (name, history) in enumerate(histories.items(), start=1):
            axes = figure.add_subplot(rows, columns, place)
            steps, loss = curve(history, "loss", "step")
            axes.plot(steps, loss, color="#9fb8c9", lw=0.6, alpha=0.8, label="training, each step")
            axes.plot(*epoch_means(history), color="#0072B2", label="training, mean of an epoch")
            steps, validation = curve(history, "validation_loss", "step")
            axes.plot(steps, validation, color="#D55E00", marker="o", ms=3.5, label="validation")
            if len(validation):
                best = int(np.argmin(validation))
                axes.plot(
                    steps[best], validation[best], "o", ms=11, mfc="none", mec="#D55E00", mew=1.4
                )
                settle(axes, loss, validation)
            axes.set(
                title=f"Flow: {method_label(name, labels)}", xlabel="optimiser steps", ylabel=ylabel
            )
            axes.locator_params(axis="x", nbins=6)
            axes.xaxis.set_major_formatter(FuncFormatter(plain))
            if place == 1:
                key = figure.legend(
                    *axes.get_legend_handles_labels(), loc="outside lower center", ncols=3
                )
                first = key.legend_handles[0]
                assert first is not None
                first.set(linewidth=2.0, alpha=1.0)
    return figure


def accuracy_against_evaluations(
    histories: Histories,
    *,
    quantity: str = "kl_reverse_nats",
    ylabel: str = "KL(q \N{DOUBLE VERTICAL LINE} posterior) (nats)",
    spread: str = "range",
    floor: float = 1e-4,
    names: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Distance from the exact posterior against evaluations spent, both logarithmic: the main
    comparison of methods.

    What one should see: lower is better and further left is cheaper. Lines are medians over seeds,
    bands reach from the worst to the best seed. A method without evaluations (the amortised flow)
    is a horizontal line: where another curve is above it, fine-tuning has so far made the posterior
    worse. "0" on the left is the state before the first evaluation. Medians below `floor`, negative
    ones included (an estimate of nearly nothing is noise), lie on the lower edge as triangles.

    Arguments:
        histories: for each method the history of each seed, with the columns `evaluations` and
            `quantity`; rows where `quantity` is blank are ignored.
        quantity: the column to draw.
        ylabel: its name and unit.
        spread: what the band covers, "range" or "quartiles".
        floor: smaller values are drawn here, because the axis is logarithmic.
        names: all methods of the experiment, which fix the colours; by default those of
            `histories`.
        labels: what to call methods, where that is not their name.
    """
    names = list(histories) if names is None else names
    with style():
        figure = new_figure(7.2, 5.1)
        axes = figure.add_subplot()
        axes.set_yscale("log")
        lowest, summaries = np.inf, []
        for name, seeds in histories.items():
            summary = median_over_seeds([curve(seed, quantity) for seed in seeds], spread)
            if not len(summary.evaluations):
                continue
            median, low, high = (np.maximum(values, floor) for values in summary[1:])
            lowest = min(lowest, low.min())
            style_of_line = line_style(name, names)
            if summary.evaluations.max() == 0:
                axes.axhspan(low[-1], high[-1], color=style_of_line["color"], alpha=FILLED, lw=0)
                axes.axhline(
                    median[-1],
                    color=style_of_line["color"],
                    ls="--",
                    label=f"{method_label(name, labels)} (0 evaluations)",
                )
            else:
                summaries.append(summary.evaluations)
                axes.fill_between(
                    summary.evaluations, low, high, color=style_of_line["color"], alpha=FILLED, lw=0
                )
                axes.plot(
                    summary.evaluations,
                    median,
                    marker="o",
                    ms=3.5,
                    label=method_label(name, labels),
                    **style_of_line,
                )
                below = summary.median < floor
                if below.any():
                    axes.plot(
                        summary.evaluations[below],
                        median[below],
                        "v",
                        ms=9,
                        color=style_of_line["color"],
                        clip_on=False,
                    )
        evaluations_axis(axes, summaries)
        if lowest <= floor:
            axes.set_ylim(bottom=floor)
        label_decades(axes)
        axes.set_ylabel(ylabel)
        legend(figure)
    return figure


def label_decades(axes: Axes) -> None:
    """Ticks of a logarithmic vertical axis: powers of ten, and where fewer than two decades are
    shown also numbers between them.
    """
    low, high = axes.get_ylim()
    decades = np.log10(high / low)
    subs = (1,) if decades >= 2 else (1, 2, 5) if decades > 0.6 else range(1, 10)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(plain))
    axes.yaxis.set_minor_locator(NullLocator())


def evaluations_axis(axes: Axes, evaluations: Sequence[np.ndarray]) -> None:
    """A logarithmic axis that starts at 0: linear up to the first positive number of
    evaluations.
    """
    axes.set_xlabel("evaluations (high-fidelity operator with gradient)")
    everything = np.concatenate([*evaluations, np.zeros(0)])
    positive = everything[everything > 0]
    if not len(positive):
        return
    first, last = positive.min(), positive.max()
    axes.set_xscale("symlog", linthresh=first, linscale=0.35)
    decades = np.log10(last / first)
    subs = (1, 2, 5) if decades < 1.5 else (1, 3) if decades < 3.2 else (1,)
    ticks = [
        tick for tick in LogLocator(subs=subs).tick_values(first, last) if first <= tick <= last
    ]
    starts_at_zero = bool(np.any(everything == 0))
    axes.xaxis.set_major_locator(FixedLocator([0] * starts_at_zero + ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.set_xlim(-0.06 * first if starts_at_zero else first, last * (last / first) ** 0.03)


def plain(value: float, _position: int | None = None) -> str:
    """10 000 and 0.001 rather than powers of ten: readers compare numbers, not exponents."""
    text = f"{value:,.0f}" if abs(value) >= 10 else f"{value:g}"
    return text.replace(",", THIN_SPACE).replace("-", "\N{MINUS SIGN}")


def epoch_means(history: Mapping[str, ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
    step, epoch, loss = (column(history, name) for name in ("step", "epoch", "loss"))
    epochs = np.unique(epoch[~np.isnan(loss)])
    members = [(epoch == one) & ~np.isnan(loss) for one in epochs]
    return np.array([step[rows].max() for rows in members]), np.array(
        [loss[rows].mean() for rows in members]
    )


def settle(axes: Axes, loss: np.ndarray, validation: np.ndarray) -> None:
    """Limit the vertical axis to the losses after the first, often very large, ones."""
    later = np.concatenate([loss[len(loss) // 20 :], validation])
    low, high = np.quantile(later, [0.0, 0.995])
    axes.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))


def legend(figure: Figure) -> None:
    entries = figure.axes[0].get_legend_handles_labels()
    if entries[0]:
        figure.legend(*entries, loc="outside lower center", ncols=3, columnspacing=1.6)
