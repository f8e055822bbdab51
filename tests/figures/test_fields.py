"""Posteriors of fields: the right numbers in the right panels, on shared scales."""

from __future__ import annotations

import numpy as np
import pytest

from pflow.figures.fields import posterior_fields

SHAPE = (12, 16)


@pytest.fixture(scope="module")
def case() -> dict:
    random = np.random.default_rng(0)
    truth = random.standard_normal(SHAPE)
    draws = {
        name: truth + scale * random.standard_normal((40, *SHAPE))
        for name, scale in (("amortized", 0.8), ("preconditioned", 0.2))
    }
    return {
        "posteriors": draws,
        "x_true": truth,
        "data": truth / 2,
        "estimates": {"Wiener filter": truth * 0.9},
        "remarks": {"amortized": "SNR 3 dB"},
    }


def panels(figure) -> list:
    return [axes for axes in figure.axes if axes.images]


def test_panels_show_what_they_say(case):
    figure = posterior_fields(**case, samples=2)
    shown = [np.asarray(axes.images[0].get_array()) for axes in panels(figure)]
    assert len(shown) == 3 + 2 * 5
    np.testing.assert_array_equal(shown[0], case["x_true"])
    np.testing.assert_array_equal(shown[1], case["data"])
    for row, name in enumerate(case["posteriors"]):
        draws = case["posteriors"][name]
        mean, spread, error, first, second = shown[3 + 5 * row : 8 + 5 * row]
        np.testing.assert_allclose(mean, draws.mean(0))
        np.testing.assert_allclose(spread, draws.std(0, ddof=1))
        np.testing.assert_allclose(error, np.abs(draws.mean(0) - case["x_true"]))
        np.testing.assert_array_equal([first, second], draws[:2])
    assert panels(figure)[3].get_ylabel() == "amortized\nSNR 3 dB"


def test_fields_share_a_scale_and_so_do_deviations_and_errors(case):
    limits = [axes.images[0].get_clim() for axes in panels(posterior_fields(**case))]
    fields = [limits[i] for i in (0, 2, 3, 6, 7, 8, 11, 12)]
    spreads = [limits[i] for i in (4, 5, 9, 10)]
    assert len(set(fields)) == 1 and len(set(spreads)) == 1
    assert fields[0][0] == -fields[0][1] and spreads[0][0] == 0


def test_without_truth_and_data_there_is_no_error_and_no_first_row(case):
    figure = posterior_fields(
        {"preconditioned": case["posteriors"]["preconditioned"][:, None]}, samples=1
    )
    assert [axes.get_title(loc="left") for axes in panels(figure)] == [
        "Conditional mean",
        "Standard deviation",
        "Draw 1",
    ]


def test_axes_are_in_the_units_of_the_field(case):
    figure = posterior_fields(
        **case,
        extent=(0.0, 80.0, 60.0, 0.0),
        axis_names=("distance (m)", "depth (m)"),
        unit="km/s",
        label="speed",
    )
    assert panels(figure)[0].get_ylim() == (60.0, 0.0)
    assert (
        panels(figure)[0].get_ylabel() == "depth (m)"
        and panels(figure)[-1].get_xlabel() == "distance (m)"
    )
    assert any(axes.get_ylabel() == "speed (km/s)" for axes in figure.axes)


def test_data_off_the_grid_have_axes_of_their_own(case):
    times = np.arange(40.0).reshape(5, 8)
    named = panels(posterior_fields(**{**case, "data": times}, data_axes=("receiver", "source")))[1]
    assert (named.get_xlabel(), named.get_ylabel()) == ("receiver", "source")
    assert all(tick == int(tick) for tick in (*named.get_xticks(), *named.get_yticks()))
    assert panels(posterior_fields(**{**case, "data": times}))[1].get_xlabel() == "datum"
    assert panels(posterior_fields(**case))[1].get_xlabel() == ""  # on the grid of the field


def test_positive_fields_have_a_scale_of_their_own(case):
    slow = {name: np.exp(draws) for name, draws in case["posteriors"].items()}
    low, high = (
        panels(posterior_fields(slow, x_true=np.exp(case["x_true"])))[0].images[0].get_clim()
    )
    assert 0 < low < high


def test_arrays_of_the_wrong_shape_are_refused(case):
    with pytest.raises(ValueError, match="height, width"):
        posterior_fields({"amortized": np.zeros((4, 9))})
    with pytest.raises(ValueError, match="shape of the draws"):
        posterior_fields(case["posteriors"], x_true=np.zeros((3, 3)))
