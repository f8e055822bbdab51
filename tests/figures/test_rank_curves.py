"""The calibration figure shows what it is given: one panel a flow, the band, a line a quantity."""

from __future__ import annotations

import numpy as np
import pytest

from pflow.figures.calibration import RankCurve, rank_curves


def curve(bend=0.0):
    at = np.linspace(0.01, 0.99, 50)
    return RankCurve(at, at + bend * np.sin(2 * np.pi * at), at - 0.05, at + 0.05)


def test_every_flow_has_a_panel_and_every_quantity_a_line():
    figure = rank_curves(
        {
            "coupling": {"x1": curve(), "x2": curve(), "log_q": curve(0.1), "tarp": curve()},
            "chint": {"x1": curve()},
        }
    )
    first, second = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Flow: coupling", "Flow: chint"]
    curves = [line for line in first.lines if len(line.get_xdata()) == 50]
    assert len(curves) == 4
    np.testing.assert_allclose(
        curves[2].get_ydata(), 0.1 * np.sin(2 * np.pi * curve().at), atol=1e-12
    )
    assert first.get_ylim()[1] > 0.1 and first.get_ylim() == second.get_ylim()
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {
        "95 % of calibrated flows",
        "parameters",
        "joint density log q",
        "distance to random points (TARP)",
    }


@pytest.mark.parametrize("flows", [{}, {"coupling": {}}])
def test_nothing_to_show_is_no_error(flows):
    rank_curves(flows)
