"""figures: every figure of one experiment, redrawn from its stores alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pflow.config.jobs import FiguresJobSettings
from pflow.diagnostics.calibration import uniformity
from pflow.figures.calibration import RankCurve, rank_curves
from pflow.figures.curves import accuracy_against_evaluations, objective_curves, pretraining_curves
from pflow.figures.fields import posterior_fields
from pflow.figures.marginals import marginals, moments_against_reference
from pflow.figures.posterior import posterior_2d
from pflow.figures.style import save
from pflow.report.numbers import format_number
from pflow.storage.layout import ExperimentFolder, PretrainedFolder, root_file
from pflow.storage.store import (
    read_arrays,
    read_csv,
    read_datatree,
    read_json,
    replacing,
    write_json,
)

__all__ = ["figures"]

Keep = Callable[..., None]
SHOWN = 4000  # pairs read for a picture
FEW_PARAMETERS = 8
REFERENCES = {"exact": "exact", "nuts": "NUTS"}


def figures(
    settings: FiguresJobSettings,
    record: dict[str, Any],
    *,
    results: Path,
    out: Path,
    threads: int = 1,
) -> None:
    """Write PNG (and SVG for line plots) into the folder `out`, and index.json with their
    captions.
    """
    captions: dict[str, str] = {}
    folder = ExperimentFolder(results)
    with replacing(out) as temporary:
        temporary.mkdir()

        def keep(name: str, figure: Any, caption: str, svg: bool = False) -> None:
            save(figure, temporary / f"{name}.png", svg=svg)
            captions[name] = caption

        for observation in settings.observations:
            suffix = f"_{observation}" if len(settings.observations) > 1 else ""
            _draw_observation(keep, settings, folder, observation, suffix)
        keep(
            "calibration",
            rank_curves({flow: _rank_curves(folder.pretrained(flow)) for flow in settings.flows}),
            "Calibration of each pretrained flow over held-out low-fidelity pairs: where the truth"
            " ranks among draws. Inside the grey band is as expected; above zero on the left and"
            " below it on the right means that the flow is too sure of itself.",
            svg=True,
        )
        training = {flow: read_csv(folder.pretrained(flow).history) for flow in settings.flows}
        keep(
            "pretraining",
            pretraining_curves(training),
            "Stage 1: training and validation loss of each flow on low-fidelity pairs.",
            svg=True,
        )
        write_json(temporary / folder.figure_index.name, {"captions": captions})


def _draw_observation(
    keep: Keep,
    settings: FiguresJobSettings,
    folder: ExperimentFolder,
    observation: str,
    suffix: str,
) -> None:
    runs = {
        m: [folder.run(observation, m, seed) for seed in settings.seeds] for m in settings.methods
    }
    trees = {m: read_datatree(seeds[0].posterior) for m, seeds in runs.items()}
    draws = {method: tree["posterior"]["x"].values[0] for method, tree in trees.items()}
    draws = {method: values.reshape(len(values), -1) for method, values in draws.items()}
    histories = {m: [read_csv(run.history) for run in seeds] for m, seeds in runs.items()}
    metrics = {m: [read_json(run.metrics) for run in seeds] for m, seeds in runs.items()}
    store = folder.reference(observation)
    reference = read_datatree(store) if root_file(store).is_file() else None
    first = next(iter(trees.values()))
    look = {"names": list(settings.methods), "labels": settings.methods}
    of = f" for observation {observation}" if suffix else ""

    if "field_shape" in first.attrs:
        _draw_fields(keep, draws, first, reference, metrics, settings.methods, suffix, of)
    if draws[next(iter(draws))].shape[-1] == 2:
        _draw_plane(keep, folder, draws, first, reference, metrics, look, suffix)
    measured = any(
        np.isfinite(h["kl_reverse_nats"]).any() for seeds in histories.values() for h in seeds
    )
    if measured:
        keep(
            f"accuracy{suffix}",
            accuracy_against_evaluations(histories, **look),
            f"Accuracy against evaluations of the expensive operator{of}: median over seeds, with"
            " the range over seeds.",
            svg=True,
        )
    objectives = {
        m: [{**h, "loss": h["objective_nats"]} for h in seeds] for m, seeds in histories.items()
    }
    trained = {
        m: seeds
        for m, seeds in objectives.items()
        if any(np.isfinite(h["loss"]).any() for h in seeds)
    }
    if trained:
        exact = reference is not None and reference.attrs["kind"] == "exact"
        lowest = (
            -float(reference.attrs["log_evidence"])
            if exact and "log_evidence" in reference.attrs
            else None
        )
        told = (
            "; the dashed line is the lowest value possible, the exact posterior's"
            if lowest is not None
            else ""
        )
        keep(
            f"objective{suffix}",
            objective_curves(trained, lowest=lowest, **look),
            f"Training objective of each method, the negative ELBO of its newest draws{of}{told}.",
            svg=True,
        )
    if (
        reference is None or reference.attrs["kind"] != "gaussian"
    ):  # that one is a baseline, and not what the draws should be
        _draw_marginals(keep, draws, first, reference, look, suffix, of)


def _draw_fields(
    keep: Keep,
    draws: dict[str, np.ndarray],
    first: Any,
    reference: Any,
    metrics: dict[str, list[dict]],
    labels: dict[str, str],
    suffix: str,
    of: str,
) -> None:
    """Means, standard deviations, errors and draws of a two-dimensional field."""
    shape, attributes = tuple(first.attrs["field_shape"]), first.attrs
    truth = None if _x_true(first) is None else _x_true(first).reshape(shape)
    data = np.squeeze(first["observed_data"]["y"].values)
    unit, data_unit = (
        first[group][name].attrs.get("units", "1")
        for group, name in (("posterior", "x"), ("observed_data", "y"))
    )
    estimates = {}
    if reference is not None and "estimates" in reference:
        named = {"Exact Gaussian mean": "x_gaussian", "Wiener filter": "x_wiener"}
        estimates = {
            title: reference["estimates"][name].values.reshape(shape)
            for title, name in named.items()
            if name in reference["estimates"]
        }
    if "summary" in first["observed_data"] and first["observed_data"]["summary"].size == math.prod(
        shape
    ):
        estimates["Back-projection"] = first["observed_data"]["summary"].values.reshape(shape)
    shown = {method: values.reshape(-1, *shape) for method, values in draws.items()}
    if reference is not None and reference.attrs["kind"] in REFERENCES:
        shown["reference"] = reference["posterior"]["x"].values.reshape(-1, *shape)
        labels = {**labels, "reference": f"reference ({REFERENCES[reference.attrs['kind']]})"}
    told = {
        m: [v["snr_mean_db"] for v in seeds if "snr_mean_db" in v] for m, seeds in metrics.items()
    }
    misfits = {
        m: f"misfit {median(v['predictive_chi_square'] for v in seeds):.2f}"
        for m, seeds in metrics.items()
    }
    keep(
        f"fields{suffix}",
        posterior_fields(
            shown,
            x_true=truth,
            data=data if data.ndim == 2 else None,
            data_name=f"Data ({data_unit})" if data_unit != "1" else "Data",
            **({"data_axes": tuple(attributes["data_axes"])} if "data_axes" in attributes else {}),
            estimates=estimates,
            extent=tuple(attributes["field_extent"]),
            axis_names=tuple(
                f"{axis} ({attributes['field_unit']})" for axis in ("lateral", "depth")
            ),
            label=attributes["field_label"],
            unit=unit,
            colours=attributes.get("field_colours"),
            remarks={m: f"SNR {median(values):.1f} dB" for m, values in told.items() if values}
            or misfits,
            labels=labels,
        ),
        f"The field and what each method makes of its data{of}: conditional mean, pointwise"
        " standard deviation, error and draws of the first seed; one colour scale for all fields,"
        " one for standard deviations and errors. Misfit: average squared residual over the noise"
        " variance, 1 as expected.",
    )


def _draw_plane(
    keep: Keep,
    folder: ExperimentFolder,
    draws: dict[str, np.ndarray],
    first: Any,
    reference: Any,
    metrics: dict[str, list[dict]],
    look: dict[str, Any],
    suffix: str,
) -> None:
    """Draws in two dimensions, over the regions of the exact posterior where it is known."""
    kl = {
        m: [v["kl_reverse_nats"] for v in seeds if "kl_reverse_nats" in v]
        for m, seeds in metrics.items()
    }
    exact = reference is not None and reference.attrs["kind"] == "exact"
    figure = posterior_2d(
        draws,
        exact=reference["posterior"]["x"].values.reshape(-1, 2) if reference is not None else None,
        exact_log_density=reference["sample_stats"]["lp"].values.reshape(-1) if exact else None,
        x_true=_x_true(first),
        y_observed=(
            first["observed_data"]["y"].values if first["observed_data"]["y"].size == 2 else None
        ),
        parameter_names=_names(first),
        remarks={
            method: f"KL {format_number(median(values), 2)} nats"
            for method, values in kl.items()
            if values
        },
        **_pairs(folder),
        **look,
    )
    told = " Grey: the exact posterior's 50, 90 and 99 % regions." if exact else ""
    keep(
        f"posterior{suffix}",
        figure,
        "What was known before, and what each method makes of"
        f" {f'observation {suffix[1:]}' if suffix else 'the observation'}.{told} Points: draws of"
        " the first seed."
        + (" KL: median over seeds of KL(q || posterior)." if any(kl.values()) else ""),
    )


def _draw_marginals(
    keep: Keep,
    draws: dict[str, np.ndarray],
    first: Any,
    reference: Any,
    look: dict[str, Any],
    suffix: str,
    of: str,
) -> None:
    size = next(iter(draws.values())).shape[-1]
    truth = None if reference is None else reference["posterior"]["x"].values.reshape(-1, size)
    named = {} if reference is None else {"reference_name": REFERENCES[reference.attrs["kind"]]}
    against = (
        ""
        if reference is None
        else f", against the {'exact' if reference.attrs['kind'] == 'exact' else 'NUTS'} one"
    )
    if size <= FEW_PARAMETERS:
        keep(
            f"marginals{suffix}",
            marginals(
                draws, truth, parameter_names=_names(first), x_true=_x_true(first), **named, **look
            ),
            f"Marginal posterior of each unknown{of}, first seed{against}.",
        )
    elif truth is not None:
        keep(
            f"moments{suffix}",
            moments_against_reference(draws, truth, **named, **look),
            f"Posterior mean and standard deviation of each unknown{of}, first seed{against}.",
        )


def _rank_curves(flow: PretrainedFolder) -> dict[str, RankCurve]:
    arrays, attributes = read_arrays(flow.ranks, ("ranks",))
    tests = {
        name: uniformity(rank, attributes["draws"])
        for name, rank in zip(attributes["quantities"], arrays["ranks"].T, strict=True)
    }
    return {
        name: RankCurve(test.at, test.empirical, test.low, test.high)
        for name, test in tests.items()
    }


def _x_true(tree: Any) -> np.ndarray | None:
    return tree["constant_data"]["x_true"].values.reshape(-1) if "constant_data" in tree else None


def _names(tree: Any) -> list[str]:
    """Labels of the unknowns with their unit, if it has one."""
    unit = tree["posterior"]["x"].attrs.get("units", "1")
    return [
        f"{name} ({unit})" if unit != "1" else str(name)
        for name in tree["posterior"]["x_dim"].values
    ]


def _pairs(folder: ExperimentFolder) -> Mapping[str, np.ndarray | None]:
    low = read_arrays(folder.shard("test", 0), ("x", "y"))[0]
    expensive = folder.shard("high_fidelity", 0)
    high = read_arrays(expensive, ("y",))[0]["y"][:SHOWN] if expensive.exists() else None
    planar = low["y"][0].size == 2  # other data have no picture in the plane
    cheap = low["y"][:SHOWN].reshape(-1, 2) if planar else None
    return {
        "prior": low["x"][:SHOWN],
        "low_fidelity_data": cheap,
        "high_fidelity_data": high if planar else None,
    }
