"""The figure of a field shows the reference and what the flow saw of the data beside the
methods.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from pflow.stages.io.observation_figures import ObservationFigures
from pflow.stages.io.observation_results import ObservationResults
from pflow.storage.arviz_schema import chains_dataset, draws_dataset, point_dataset

RANDOM = np.random.default_rng(0)
SECTION = {
    "field_shape": [3, 4],
    "field_extent": [0.0, 40.0, 30.0, 0.0],
    "field_unit": "m",
    "field_label": "log velocity",
    "field_colours": "RdBu",
    "data_axes": ["receiver", "source"],
}


def trees():
    posterior = {
        "posterior": draws_dataset({"x": RANDOM.standard_normal((20, 12))}),
        "observed_data": point_dataset({"y": RANDOM.standard_normal((2, 5))}, units={"y": "ms"}),
        "constant_data": point_dataset({"x_true": RANDOM.standard_normal(12)}),
    }
    posterior["observed_data"]["summary"] = point_dataset({"summary": RANDOM.standard_normal(12)})[
        "summary"
    ]
    first = xr.DataTree.from_dict(posterior)
    first.attrs = SECTION
    reference = xr.DataTree.from_dict(
        {"posterior": chains_dataset({"x": RANDOM.standard_normal((2, 10, 12))})}
    )
    reference.attrs = {"kind": "nuts"}
    return first, reference


def drawn(reference_kind="nuts"):
    first, reference = trees()
    reference.attrs["kind"] = reference_kind
    kept = []
    metrics = {"amortized": [{"predictive_chi_square": 2.5}]}
    ObservationFigures(
        lambda name, figure, caption, svg=False: kept.append((name, figure)),
        ObservationResults({"amortized": first}, {}, metrics, reference),
        {"amortized": "amortised"},
        suffix="",
        of="",
    ).fields()
    ((name, figure),) = kept
    assert name == "fields"
    return figure.axes


def test_reference_and_back_projection_are_shown():
    axes = drawn()
    titles, rows = {a.get_title(loc="left") for a in axes}, {a.get_ylabel() for a in axes}
    assert {"True model", "Data (ms)", "Back-projection"} <= titles
    assert {"amortised\nmisfit 2.50", "reference (NUTS)", "depth (m)"} <= rows
    assert ("receiver", "source") in {(a.get_xlabel(), a.get_ylabel()) for a in axes}
    assert axes[0].get_images()[0].get_cmap().name == "RdBu" and axes[0].get_images()[
        0
    ].get_extent() == [0, 40, 30, 0]


def test_a_baseline_is_no_reference():
    assert not any("reference" in a.get_ylabel() for a in drawn("gaussian"))
