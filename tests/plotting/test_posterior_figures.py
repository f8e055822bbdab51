"""The figures and the table of one posterior say what its draws say, in physical values."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pflow.cli import main
from pflow.diagnostics.images import against_truth
from pflow.diagnostics.power_spectrum import radial_power
from pflow.errors import PflowError
from pflow.plotting.chosen import chosen_parameters
from pflow.plotting.posterior_figures import draw_posterior, plot_posterior, read_view
from pflow.plotting.table import interval_rows
from pflow.plotting.view import view_of
from pflow.storage.arviz_schema import draws_dataset, point_dataset
from pflow.storage.datatrees import write_datatree

DRAWS, UNKNOWNS = 400, 10
NAMES = [f"depth {i}" for i in range(UNKNOWNS)]
SPREAD = np.linspace(0.9, 0.1, UNKNOWNS)  # of the posterior; the prior's is 1


def groups(physical: bool = False) -> dict[str, xr.Dataset]:
    random = np.random.default_rng(0)
    x = 1.0 + SPREAD * random.standard_normal((DRAWS, UNKNOWNS))
    prior = random.standard_normal((1000, UNKNOWNS))
    units = {"x": "km", "y": "s", "physical": "m"}
    draws, before, truth = {"x": x}, {"x": prior}, {"x_true": np.ones(UNKNOWNS)}
    if physical:
        draws["physical"], before["physical"] = np.exp(x), np.exp(prior)
        truth["physical_true"] = np.exp(truth["x_true"])
    return {
        "posterior": draws_dataset(draws, NAMES, units),
        "prior": draws_dataset(before, NAMES, units),
        "constant_data": point_dataset(truth, NAMES, units),
        "observed_data": point_dataset({"y": np.zeros(30)}, units=units),
        "posterior_predictive": draws_dataset(
            {"y": random.standard_normal((DRAWS, 30))}, units=units
        ),
    }


def tree(physical: bool = False, **attributes: object) -> xr.DataTree:
    made = xr.DataTree.from_dict(groups(physical))
    made.attrs = attributes
    return made


def image() -> xr.DataTree:
    """A calibrated posterior of a field of 12 x 12 points 5 m apart."""
    random = np.random.default_rng(1)
    centre = random.standard_normal(144)
    draws, truth = centre + 0.5 * random.standard_normal((2, 300, 144))
    made = xr.DataTree.from_dict(
        {
            "posterior": draws_dataset({"x": draws}),
            "prior": draws_dataset({"x": 1.1 * random.standard_normal((60, 144))}),
            "constant_data": point_dataset({"x_true": truth[0]}),
            "observed_data": point_dataset({"y": np.zeros(3)}),
        }
    )
    made.attrs = {
        "field_shape": [12, 12],
        "field_extent": [0.0, 60.0, 60.0, 0.0],
        "field_unit": "m",
    }
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = tmp_path / "results/own/posteriors/y1/amortized/seed-0"
    write_datatree(run / "posterior.zarr", groups(), {"method": "amortized"})
    return run


def test_the_table_holds_quantiles_of_the_draws_and_the_contraction():
    rows = interval_rows(view_of(tree()))
    x = tree()["posterior"]["x"].values[0]
    assert [row["parameter"] for row in rows] == NAMES and rows[0]["unit"] == "km"
    for key, level in {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}.items():
        np.testing.assert_allclose([row[key] for row in rows], np.quantile(x, level, axis=0))
    np.testing.assert_allclose([row["prior_q95"] for row in rows], 1.645, atol=0.2)
    np.testing.assert_allclose([row["contraction"] for row in rows], 1 - SPREAD, atol=0.08)
    assert {row["true_value"] for row in rows} == {1.0}


def test_all_values_are_physical_where_x_are_coordinates():
    view = view_of(tree(physical=True))
    x = tree()["posterior"]["x"].values[0]
    np.testing.assert_allclose(view.draws, np.exp(x))
    row = interval_rows(view)[3]
    assert row["unit"] == "m" and row["parameter"] == "depth 3"
    assert row["median"] == pytest.approx(np.exp(np.median(x[:, 3])), rel=1e-3)
    assert row["true_value"] == pytest.approx(np.e)
    assert row["prior_q95"] == pytest.approx(np.exp(1.645), rel=0.2)


def test_the_eight_parameters_that_the_data_contract_most_are_drawn():
    assert chosen_parameters(view_of(tree()), None, "parameters") == list(range(2, UNKNOWNS))
    without_prior = tree().drop_nodes("prior")
    assert chosen_parameters(view_of(without_prior), None, "parameters") == list(range(8))
    figures = plot_posterior(tree(), ["depth 7", "depth 2"])
    labels = [axes.get_xlabel() for axes in figures["marginals"].axes]
    assert labels == ["depth 7 (km)", "depth 2 (km)"] and len(figures["pairs"].axes) == 4


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["dpeth 3"], r"`figures.parameters` \(='dpeth 3'\) must name .* did you mean `depth 3`\?"),
        (["porosity"], r"must name parameters of the posterior: they are depth 0, .*\.\.\."),
        (["depth 1", "depth 1"], "must name each parameter once"),
        (NAMES[:9], "at most 8 parameters, and names 9"),
    ],
)
def test_names_that_cannot_be_drawn_are_refused(names, message):
    with pytest.raises(PflowError, match=message):
        draw_posterior(view_of(tree()), names, "figures.parameters")


def test_a_field_has_maps_and_marginals_only_of_what_is_named():
    field = tree(field_shape=[2, 5], field_unit="m", field_label="log velocity")
    figures = plot_posterior(field)
    assert list(figures) == ["maps", "draws", "coverage", "prediction"]
    shown = {
        axes.get_title(loc="left"): np.asarray(axes.images[0].get_array())
        for axes in figures["maps"].axes
        if axes.images
    }
    x = field["posterior"]["x"].values[0]
    np.testing.assert_allclose(shown["Mean"], x.mean(0).reshape(2, 5))
    np.testing.assert_allclose(shown["Standard deviation"], x.std(0, ddof=1).reshape(2, 5))
    np.testing.assert_allclose(shown["Contraction"], (1 - SPREAD).reshape(2, 5), atol=0.08)
    np.testing.assert_array_equal(shown["Draw 2"], x[1].reshape(2, 5))
    np.testing.assert_array_equal(shown["True field"], np.ones((2, 5)))
    named = plot_posterior(field, ["depth 0"])
    assert list(named) == ["maps", "draws", "coverage", "marginals", "prediction"]


def test_the_coverage_of_a_field_is_that_of_its_metrics_and_its_spectra_those_of_its_draws():
    field = image()
    figures = plot_posterior(field)
    assert list(figures) == ["maps", "draws", "coverage", "spectra"]
    x, truth = field["posterior"]["x"].values[0], field["constant_data"]["x_true"].values
    metrics = against_truth(x, truth)
    bars = [bar.get_width() for bar in figures["coverage"].axes[2].patches]
    expected = [100 * metrics[f"coverage_{percent}"] for percent in (50, 90, 95)]
    assert bars == pytest.approx(expected) and bars[1] == pytest.approx(90, abs=6)
    lines = [line.get_xdata() for line in figures["coverage"].axes[2].lines]
    low, high = lines[3]  # of 144 independent pixels, nine times of ten
    assert low < 90 < high and high - low == pytest.approx(2 * 164.5 * (0.09 / 144) ** 0.5, rel=0.3)
    shown = np.asarray(figures["coverage"].axes[0].images[0].get_array())
    np.testing.assert_allclose(
        shown, ((truth - x.mean(0)) / x.std(0, ddof=1)).reshape(12, 12), rtol=1e-6
    )
    axes = figures["spectra"].axes[0]
    k, power = radial_power(truth.reshape(1, 12, 12), (5.0, 5.0))
    (drawn,) = [line for line in axes.lines if line.get_label() == "true field"]
    np.testing.assert_allclose(drawn.get_xydata(), np.stack([k, power[0]], 1))
    assert axes.get_xlabel() == "wavenumber (cycles per m)"


def test_a_pixel_that_never_changes_has_no_deviation():
    field = image()
    field["posterior"]["x"][:, :, 5] = 1.0
    shown = plot_posterior(field)["coverage"].axes[0].images[0].get_array()
    assert np.isnan(np.asarray(shown, dtype=float).ravel()).nonzero()[0].tolist() == [5]


def test_without_prior_truth_and_operator_what_is_left_is_drawn():
    bare = tree().drop_nodes(["prior", "constant_data", "posterior_predictive"])
    figures = plot_posterior(bare, NAMES[:2])
    assert list(figures) == ["marginals", "pairs"]
    assert "contraction" not in interval_rows(view_of(bare))[0]


def test_a_posterior_without_finite_draws_says_so():
    broken = tree()
    broken["posterior"]["x"][:] = np.nan
    with pytest.raises(PflowError, match="0 finite draws of 400"):
        plot_posterior(broken)


def test_the_command_writes_figures_and_table(folder: Path, tmp_path: Path, capsys):
    out = tmp_path / "plots"
    assert main(["plot", str(folder), "--parameters", "depth 9", "depth 8", "--out", str(out)]) == 0
    names = {"marginals", "pairs", "prediction"}
    files = {f"{name}.{kind}" for name in names for kind in ("png", "svg")} | {"intervals.csv"}
    assert {file.name for file in out.iterdir()} == files
    with (out / "intervals.csv").open() as table:
        rows = list(csv.DictReader(table))
    expected = interval_rows(read_view(folder / "posterior.zarr"))
    assert [float(row["q95"]) for row in rows] == [row["q95"] for row in expected]
    assert "marginals.png" in capsys.readouterr().out


def test_mistakes_on_the_command_line_are_one_line(folder: Path, tmp_path: Path, capsys):
    assert main(["plot", str(tmp_path / "nowhere")]) == 1
    assert "must hold a posterior store" in capsys.readouterr().err
    out = ["--out", str(tmp_path / "plots")]
    assert main(["plot", str(folder), "--parameters", "deph 1", *out]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: `--parameters`") and "did you mean `depth 1`?" in error
    assert not (tmp_path / "plots").exists()
