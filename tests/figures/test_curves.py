"""What is drawn is what was measured, on the axes that were promised."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from pflow.figures.curves import (
    accuracy_against_evaluations,
    objective_curves,
    plain,
    pretraining_curves,
)
from pflow.figures.palette import method_colour

CHECKPOINTS = [0, 64, 640, 5120]


def histories() -> dict[str, list[dict]]:
    def seed(start: float, end: float, factor: float) -> dict:
        kl = factor * np.geomspace(start, end, 4)
        return {"evaluations": CHECKPOINTS, "kl_reverse_nats": kl, "loss": 3.1 + kl}

    return {
        "amortized": [
            {"evaluations": [0], "kl_reverse_nats": [0.3 * factor], "loss": [""]}
            for factor in (1, 2, 4)
        ],
        "preconditioned": [seed(0.3, 0.006, factor) for factor in (1, 1.5, 0.7)],
        "scratch": [seed(90, 0.2, factor) for factor in (1, 1.2, 0.9)],
    }


def line(axes, label: str):
    return next(line for line in axes.get_lines() if line.get_label() == label)


def legend_texts(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def labelled_heights(figure) -> int:
    figure.draw_without_rendering()
    axes = figure.axes[0]
    bottom, top = axes.get_ylim()
    return sum(
        bottom <= tick <= top and bool(label.get_text())
        for tick, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    )


def test_accuracy_draws_the_median_over_seeds_in_the_colour_of_the_method():
    given = histories()
    axes = accuracy_against_evaluations(given).axes[0]
    for name in ("preconditioned", "scratch"):
        expected = np.median([seed["kl_reverse_nats"] for seed in given[name]], axis=0)
        np.testing.assert_array_equal(line(axes, name).get_ydata(), expected)
        np.testing.assert_array_equal(line(axes, name).get_xdata(), CHECKPOINTS)
        assert to_hex(line(axes, name).get_color(), keep_alpha=False).upper() == method_colour(
            name, list(given)
        )


@pytest.mark.parametrize(
    ("low", "high"), [(120, 2900), (600, 1500), (3.1, 3.9), (0.004, 0.02), (0.001, 90)]
)
def test_accuracy_labels_two_heights_or_more_however_narrow_the_range(low, high):
    history = {"evaluations": [0, 100, 1000], "kl_reverse_nats": [high, (low * high) ** 0.5, low]}
    assert 2 <= labelled_heights(accuracy_against_evaluations({"gaussian": [history]})) <= 10


def test_accuracy_has_a_band_from_the_best_to_the_worst_seed():
    given = histories()
    axes = accuracy_against_evaluations({"scratch": given["scratch"]}).axes[0]
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    values = np.array([seed["kl_reverse_nats"] for seed in given["scratch"]])
    assert (heights.min(), heights.max()) == (values[:, -1].min(), values[:, 0].max())


def test_accuracy_is_logarithmic_starts_at_zero_evaluations_and_names_its_units():
    figure = accuracy_against_evaluations(histories())
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("symlog", "log")
    assert axes.get_xlim()[0] <= 0
    assert 0 in axes.get_xticks()
    assert axes.xaxis.get_major_formatter()(0) == "0"
    assert "evaluations" in axes.get_xlabel() and "nats" in axes.get_ylabel()
    assert set(legend_texts(figure)) == {"amortized (0 evaluations)", "preconditioned", "scratch"}


def test_a_method_without_evaluations_is_a_horizontal_line():
    amortized = line(accuracy_against_evaluations(histories()).axes[0], "amortized (0 evaluations)")
    assert list(amortized.get_ydata()) == [0.6, 0.6]


def test_estimates_below_nothing_lie_on_the_lower_edge():
    seeds = [{"evaluations": [0, 64], "kl_reverse_nats": [0.1, -0.001]}]
    axes = accuracy_against_evaluations({"preconditioned": seeds}, floor=1e-3).axes[0]
    np.testing.assert_array_equal(line(axes, "preconditioned").get_ydata(), [0.1, 1e-3])
    triangles = next(line for line in axes.get_lines() if line.get_marker() == "v")
    assert (list(triangles.get_xdata()), list(triangles.get_ydata())) == ([64], [1e-3])
    assert axes.get_ylim()[0] == 1e-3


def test_objective_draws_the_median_and_each_seed():
    given = histories()
    figure = objective_curves(given, lowest=3.1)
    axes = figure.axes[0]
    expected = np.median([seed["loss"] for seed in given["preconditioned"]], axis=0)
    np.testing.assert_array_equal(line(axes, "preconditioned").get_ydata(), expected)
    colour = method_colour("preconditioned", list(given)).lower()
    assert sum(to_hex(line.get_color()) == colour for line in axes.get_lines()) == 1 + 3
    assert "amortized" not in legend_texts(figure)
    assert any("log p(y)" in text for text in legend_texts(figure))
    assert axes.get_ylabel().endswith("(nats)")


@pytest.mark.parametrize(("low", "high"), [(1040, 60_000), (3.1, 900), (-20, 4000), (250, 310)])
def test_objective_labels_heights_however_far_away_it_is(low, high):
    history = {"evaluations": [0, 100, 1000], "loss": [high, 0.5 * (low + high), low]}
    assert 2 <= labelled_heights(objective_curves({"image": [history]})) <= 10


def test_labels_replace_names_but_not_colours():
    figure = objective_curves(
        {"mine": histories()["scratch"]}, names=["other", "mine"], labels={"mine": "my method"}
    )
    assert legend_texts(figure) == ["my method"]
    assert to_hex(line(figure.axes[0], "my method").get_color()).upper() == method_colour(
        "mine", ["other", "mine"]
    )


def test_pretraining_shows_validation_and_rings_its_best():
    steps = np.arange(1, 9)
    history = {
        "step": steps, "epoch": np.repeat([0, 1, 2, 3], 2), "loss": 5.0 / steps,
        "validation_loss": ["", 3.0, "", 1.0, "", 2.0, "", 2.5],
    }  # fmt: skip
    figure = pretraining_curves({"coupling": history, "chint": history})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Flow: coupling", "Flow: chint"]
    axes = figure.axes[0]
    np.testing.assert_array_equal(line(axes, "validation").get_ydata(), [3.0, 1.0, 2.0, 2.5])
    np.testing.assert_array_equal(line(axes, "training, each step").get_ydata(), 5.0 / steps)
    np.testing.assert_allclose(
        line(axes, "training, mean of an epoch").get_ydata(),
        (5.0 / steps).reshape(4, 2).mean(axis=1),
    )
    ring = next(line for line in axes.get_lines() if line.get_markersize() == 11)
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([4], [1.0])


@pytest.mark.parametrize(
    "draw", [accuracy_against_evaluations, objective_curves, pretraining_curves]
)
def test_nothing_to_draw_is_an_empty_figure(draw):
    assert draw({}) is not None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.001, "0.001"), (10000, "10\N{NARROW NO-BREAK SPACE}000"), (-100, "−100")],
)
def test_ticks_are_plain_numbers(value: float, text: str):
    assert plain(value) == text
