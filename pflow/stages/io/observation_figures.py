"""The figures of one observation, each with its caption."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from pflow.figures.curves import accuracy_against_evaluations, objective_curves
from pflow.figures.fields import posterior_fields
from pflow.figures.marginals import marginals, moments_against_reference
from pflow.figures.posterior import posterior_2d
from pflow.report.numbers import format_number
from pflow.stages.io.observation_results import ObservationResults, pairs_in_the_plane
from pflow.storage.layout import ExperimentFolder

__all__ = ["ObservationFigures"]

Keep = Callable[..., None]
FEW_PARAMETERS = 8
REFERENCES = {"exact": "exact", "nuts": "NUTS"}


@dataclass(frozen=True)
class ObservationFigures:
    """The figures of one observation.

    Arguments:
        keep: (name, figure, caption, svg) -> None, writes a figure.
        results: the results of the stages at the observation.
        labels: of each method, in drawing order.
        suffix: of the names of the figures, where there are several observations.
        of: the same in words, for captions.
    """

    keep: Keep
    results: ObservationResults
    labels: dict[str, str]
    suffix: str
    of: str

    @property
    def methods(self) -> dict[str, Any]:
        """Names and labels, as the functions of `pflow.figures` take them."""
        return {"names": list(self.labels), "labels": self.labels}

    def draw(self, folder: ExperimentFolder) -> None:
        """Every figure for which there are data.

        Arguments:
            folder: of the results of the experiment, for its pairs.
        """
        if "field_shape" in self.results.any_posterior.attrs:
            self.fields()
        if self.results.unknowns == 2:
            self.plane(folder)
        self.accuracy()
        self.objectives()
        # the Gaussian reference is a baseline, not the target of the draws
        if self.results.reference_kind != "gaussian":
            self.each_unknown()

    def accuracy(self) -> None:
        """KL(q || posterior) against evaluations, where it was measured."""
        histories = self.results.histories
        if not any(
            np.isfinite(h["kl_reverse_nats"]).any() for seeds in histories.values() for h in seeds
        ):
            return
        self.keep(
            f"accuracy{self.suffix}",
            accuracy_against_evaluations(histories, **self.methods),
            f"Accuracy against evaluations of the expensive operator{self.of}: median over seeds,"
            " with the range over seeds.",
            svg=True,
        )

    def objectives(self) -> None:
        """The negative ELBO of each method that was trained."""
        objectives = {
            m: [{**h, "loss": h["objective_nats"]} for h in seeds]
            for m, seeds in self.results.histories.items()
        }
        trained = {
            m: seeds
            for m, seeds in objectives.items()
            if any(np.isfinite(h["loss"]).any() for h in seeds)
        }
        if not trained:
            return
        lowest, remark = None, ""
        if self.results.reference_kind == "exact":
            log_evidence = self.results.reference.attrs.get("log_evidence")
            lowest = None if log_evidence is None else -float(log_evidence)
        if lowest is not None:
            remark = "; the dashed line is the lowest value possible, the exact posterior's"
        self.keep(
            f"objective{self.suffix}",
            objective_curves(trained, lowest=lowest, **self.methods),
            "Training objective of each method, the negative ELBO of its newest"
            f" draws{self.of}{remark}.",
            svg=True,
        )

    def fields(self) -> None:
        """Means, standard deviations, errors and draws of a two-dimensional field."""
        results, first = self.results, self.results.any_posterior
        shape, attributes = tuple(first.attrs["field_shape"]), first.attrs
        data = np.squeeze(first["observed_data"]["y"].values)
        unit, data_unit = (
            first[group][name].attrs.get("units", "1")
            for group, name in (("posterior", "x"), ("observed_data", "y"))
        )
        shown = {method: x.reshape(-1, *shape) for method, x in results.draws.items()}
        labels = self.labels
        if results.reference_kind in REFERENCES:
            shown["reference"] = results.reference_draws.reshape(-1, *shape)
            labels = labels | {"reference": f"reference ({REFERENCES[results.reference_kind]})"}
        figure = posterior_fields(
            shown,
            x_true=None if results.x_true is None else results.x_true.reshape(shape),
            data=data if data.ndim == 2 else None,
            data_name=f"Data ({data_unit})" if data_unit != "1" else "Data",
            **({"data_axes": tuple(attributes["data_axes"])} if "data_axes" in attributes else {}),
            estimates=self._estimates(shape),
            extent=tuple(attributes["field_extent"]),
            axis_names=tuple(
                f"{axis} ({attributes['field_unit']})" for axis in ("lateral", "depth")
            ),
            label=attributes["field_label"],
            unit=unit,
            colours=attributes.get("field_colours"),
            remarks=self._quality(),
            labels=labels,
        )
        self.keep(
            f"fields{self.suffix}",
            figure,
            f"The field and its estimate by each method{self.of}: conditional mean,"
            " pointwise standard deviation, error and draws of the first seed; one colour scale"
            " for all fields, one for standard deviations and errors. Misfit: average squared"
            " residual over the noise variance, 1 as expected.",
        )

    def _estimates(self, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Fields computed without a flow: those of the reference stage, and the summary of the
        data.
        """
        reference, observed = self.results.reference, self.results.any_posterior["observed_data"]
        estimates = {}
        if reference is not None and "estimates" in reference:
            titles = {"Exact Gaussian mean": "x_gaussian", "Wiener filter": "x_wiener"}
            estimates = {
                title: reference["estimates"][name].values.reshape(shape)
                for title, name in titles.items()
                if name in reference["estimates"]
            }
        if "summary" in observed and observed["summary"].size == math.prod(shape):
            estimates["Back-projection"] = observed["summary"].values.reshape(shape)
        return estimates

    def _quality(self) -> dict[str, str]:
        """Of each method, the median over seeds of the SNR where the truth is known, otherwise of
        the misfit.
        """
        metrics = self.results.metrics
        ratios = {
            m: [v["snr_mean_db"] for v in seeds if "snr_mean_db" in v]
            for m, seeds in metrics.items()
        }
        by_truth = {m: f"SNR {median(values):.1f} dB" for m, values in ratios.items() if values}
        return by_truth or {
            m: f"misfit {median(v['predictive_chi_square'] for v in seeds):.2f}"
            for m, seeds in metrics.items()
        }

    def plane(self, folder: ExperimentFolder) -> None:
        """Draws in two dimensions, over the regions of the exact posterior where it is known."""
        results, observed = self.results, self.results.any_posterior["observed_data"]["y"]
        divergences = {
            m: [v["kl_reverse_nats"] for v in seeds if "kl_reverse_nats" in v]
            for m, seeds in results.metrics.items()
        }
        exact = results.reference_kind == "exact"
        figure = posterior_2d(
            results.draws,
            exact=results.reference_draws,
            exact_log_density=(
                results.reference["sample_stats"]["lp"].values.reshape(-1) if exact else None
            ),
            x_true=results.x_true,
            y_observed=observed.values if observed.size == 2 else None,
            parameter_names=results.parameter_names,
            remarks={
                method: f"KL {format_number(median(values), 2)} nats"
                for method, values in divergences.items()
                if values
            },
            **pairs_in_the_plane(folder),
            **self.methods,
        )
        regions = " Grey: the exact posterior's 50, 90 and 99 % regions." if exact else ""
        measured = " KL: median over seeds of KL(q || posterior)."
        self.keep(
            f"posterior{self.suffix}",
            figure,
            "What was known before, and what each method makes of"
            f" {f'observation {self.suffix[1:]}' if self.suffix else 'the observation'}.{regions}"
            f" Points: draws of the first seed.{measured if any(divergences.values()) else ''}",
        )

    def each_unknown(self) -> None:
        """Marginals of few parameters; moments of many, against a reference."""
        results = self.results
        truth, given, against = results.reference_draws, {}, ""
        if truth is not None:
            name = REFERENCES[results.reference_kind]
            given, against = {"reference_name": name}, f", against the {name} one"
        if results.unknowns <= FEW_PARAMETERS:
            self.keep(
                f"marginals{self.suffix}",
                marginals(
                    results.draws,
                    truth,
                    parameter_names=results.parameter_names,
                    x_true=results.x_true,
                    **given,
                    **self.methods,
                ),
                f"Marginal posterior of each parameter{self.of}, first seed{against}.",
            )
        elif truth is not None:
            self.keep(
                f"moments{self.suffix}",
                moments_against_reference(results.draws, truth, **given, **self.methods),
                f"Posterior mean and standard deviation of each parameter{self.of}, first"
                f" seed{against}.",
            )
