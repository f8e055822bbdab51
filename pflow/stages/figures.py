"""figures: every figure of one experiment, redrawn from its stores alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pflow.figures.curves import accuracy_against_evaluations, objective_curves, pretraining_curves
from pflow.figures.marginals import marginals, moments_against_reference
from pflow.figures.posterior import posterior_2d
from pflow.figures.style import save
from pflow.stage_settings import FiguresSettings
from pflow.store import read_arrays, read_csv, read_datatree, replacing, write_json

__all__ = ["figures"]

SHOWN = 4000  # pairs read for a picture
FEW_PARAMETERS = 8


def figures(settings: FiguresSettings, record: dict[str, Any], *, results: Path, out: Path, threads: int = 1) -> None:
    """Write PNG (and SVG for line plots) into the folder `out`, and index.json with their captions."""
    captions: dict[str, str] = {}
    with replacing(out) as temporary:
        temporary.mkdir()

        def keep(name: str, figure: Any, caption: str, svg: bool = False) -> None:
            save(figure, temporary / f"{name}.png", svg=svg)
            captions[name] = caption

        for observation in settings.observations:
            suffix = f"_{observation}" if len(settings.observations) > 1 else ""
            _draw_observation(keep, settings, results, observation, suffix)
        training = {flow: read_csv(results / "pretrained" / flow / "history.csv") for flow in settings.flows}
        keep("pretraining", pretraining_curves(training), "Stage 1: training and validation loss of each flow on low-fidelity pairs.", svg=True)
        write_json(temporary / "index.json", {"captions": captions})


def _draw_observation(keep: Any, settings: FiguresSettings, results: Path, observation: str, suffix: str) -> None:
    folder = results / "posteriors" / observation
    trees = {m: [read_datatree(folder / m / f"seed-{s}" / "posterior.zarr") for s in settings.seeds] for m in settings.methods}
    draws = {method: seeds[0]["posterior"]["x"].values[0] for method, seeds in trees.items()}
    histories = {m: [read_csv(folder / m / f"seed-{s}" / "history.csv") for s in settings.seeds] for m in settings.methods}
    reference = read_datatree(folder / "reference.zarr")
    truth = reference["posterior"]["x"].values[0]
    first = next(iter(trees.values()))[0]
    x_true = first["constant_data"]["x_true"].values if "constant_data" in first else None
    names = [str(name) for name in first["posterior"]["x_dim"].values]
    look = {"names": list(settings.methods), "labels": settings.methods}
    of = f" for observation {observation}" if suffix else ""

    if truth.shape[-1] == 2:
        kl = {m: median([h["kl_reverse_nats"][np.isfinite(h["kl_reverse_nats"])][-1] for h in seeds]) for m, seeds in histories.items()}
        figure = posterior_2d(
            draws,
            exact=truth,
            exact_log_density=reference["sample_stats"]["lp"].values[0],
            x_true=x_true,
            y_observed=first["observed_data"]["y"].values,
            parameter_names=names,
            remarks={method: f"KL {value:.2g} nats" for method, value in kl.items()},
            **_pairs(results),
            **look,
        )
        keep(
            f"posterior{suffix}",
            figure,
            f"What was known before, and what each method makes of the observation{of}. Grey: the exact posterior's 50, 90 and 99 % regions. "
            "Points: draws of the first seed. KL: median over seeds of KL(q || posterior).",
        )
    keep(
        f"accuracy{suffix}",
        accuracy_against_evaluations(histories, **look),
        f"Accuracy against evaluations of the expensive operator{of}: median over seeds, with the range over seeds.",
        svg=True,
    )
    lowest = -float(reference.attrs["log_evidence"])
    trained = {m: seeds for m, seeds in histories.items() if any(np.isfinite(h["loss"]).any() for h in seeds)}
    if trained:
        keep(
            f"objective{suffix}",
            objective_curves(trained, lowest=lowest, **look),
            f"Training objective of each method{of}; the dashed line is the lowest value possible, the exact posterior's.",
            svg=True,
        )
    if truth.shape[-1] <= FEW_PARAMETERS:
        keep(
            f"marginals{suffix}",
            marginals(draws, truth, parameter_names=names, x_true=x_true, **look),
            f"Marginal posterior of each unknown{of}, first seed, against the exact one.",
        )
    else:
        keep(
            f"moments{suffix}",
            moments_against_reference(draws, truth, **look),
            f"Posterior mean and standard deviation of each unknown{of}, first seed, against the exact ones.",
        )


def _pairs(results: Path) -> Mapping[str, np.ndarray | None]:
    low = read_arrays(results / "pairs" / "test" / "shard-0.zarr", ("x", "y"))[0]
    expensive = results / "pairs" / "high_fidelity" / "shard-0.zarr"
    high = read_arrays(expensive, ("y",))[0]["y"][:SHOWN] if expensive.exists() else None
    return {"prior": low["x"][:SHOWN], "low_fidelity_data": low["y"][:SHOWN], "high_fidelity_data": high}
