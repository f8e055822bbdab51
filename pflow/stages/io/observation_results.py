"""The results of the stages at one observation, read for its figures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pflow.config.jobs import FiguresJobSettings
from pflow.storage.datatrees import read_datatree
from pflow.storage.layout import ExperimentFolder, root_file
from pflow.storage.store import read_arrays
from pflow.storage.text_files import read_csv, read_json

if TYPE_CHECKING:
    from xarray import DataTree

__all__ = ["ObservationResults", "pairs_in_the_plane", "read_metrics", "read_observation_results"]

PAIRS_SHOWN = 4000


@dataclass(frozen=True)
class ObservationResults:
    """All methods at one observation.

    Attributes:
        posteriors: store of each method, of the first seed.
        histories: columns of history.csv of each method, one table a seed.
        metrics: of each method, one entry a seed.
        reference: store of the reference; None where there is none.
    """

    posteriors: dict[str, DataTree]
    histories: dict[str, list[dict[str, np.ndarray]]]
    metrics: dict[str, list[dict[str, Any]]]
    reference: DataTree | None

    @cached_property
    def draws(self) -> dict[str, np.ndarray]:
        """Draws of each method, (draws, parameters)."""
        arrays = {m: tree["posterior"]["x"].values[0] for m, tree in self.posteriors.items()}
        return {method: values.reshape(len(values), -1) for method, values in arrays.items()}

    @property
    def unknowns(self) -> int:
        """The number of parameters of a model."""
        return next(iter(self.draws.values())).shape[-1]

    @property
    def any_posterior(self) -> DataTree:
        """The store of one method, for the values that all stores of an observation share."""
        return next(iter(self.posteriors.values()))

    @property
    def x_true(self) -> np.ndarray | None:
        """The true model, (parameters,), where it is known."""
        tree = self.any_posterior
        if "constant_data" not in tree:
            return None
        return tree["constant_data"]["x_true"].values.reshape(-1)

    @property
    def parameter_names(self) -> list[str]:
        """Labels of the parameters with their unit, if they have one."""
        posterior = self.any_posterior["posterior"]
        unit = posterior["x"].attrs.get("units", "1")
        return [
            f"{name} ({unit})" if unit != "1" else str(name) for name in posterior["x_dim"].values
        ]

    @property
    def reference_kind(self) -> str:
        """`exact`, `nuts` or `gaussian`; empty without a reference."""
        return "" if self.reference is None else self.reference.attrs["kind"]

    @property
    def reference_draws(self) -> np.ndarray | None:
        """(draws, parameters); None without a reference."""
        if self.reference is None:
            return None
        return self.reference["posterior"]["x"].values.reshape(-1, self.unknowns)


def read_metrics(
    settings: FiguresJobSettings, folder: ExperimentFolder
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The metrics of each observation and method, one entry a seed.

    Raises:
        PflowError: a file is missing or damaged.
    """
    return {
        observation: {
            method: [read_json(folder.run(observation, method, seed).metrics) for seed in seeds]
            for method, seeds in settings.seeds_at(observation).items()
        }
        for observation in settings.observations
    }


def read_observation_results(
    settings: FiguresJobSettings, folder: ExperimentFolder, observation: str
) -> ObservationResults:
    """The runs and the reference of one observation.

    Raises:
        PflowError: a file is missing or damaged.
    """
    runs = {
        method: [folder.run(observation, method, seed) for seed in seeds]
        for method, seeds in settings.seeds_at(observation).items()
    }
    reference = folder.reference(observation)
    return ObservationResults(
        {m: read_datatree(seeds[0].posterior) for m, seeds in runs.items()},
        {m: [read_csv(run.history, "evaluations") for run in seeds] for m, seeds in runs.items()},
        {m: [read_json(run.metrics) for run in seeds] for m, seeds in runs.items()},
        read_datatree(reference) if root_file(reference).is_file() else None,
    )


def pairs_in_the_plane(folder: ExperimentFolder) -> dict[str, np.ndarray | None]:
    """Draws of the prior, and data of both operators where they have two components."""
    low = read_arrays(folder.shard("test", 0), ("x", "y"))[0]
    expensive = folder.shard("high_fidelity", 0)
    high = read_arrays(expensive, ("y",))[0]["y"][:PAIRS_SHOWN] if expensive.exists() else None
    planar = low["y"][0].size == 2
    cheap = low["y"][:PAIRS_SHOWN].reshape(-1, 2) if planar else None
    return {
        "prior": low["x"][:PAIRS_SHOWN],
        "low_fidelity_data": cheap,
        "high_fidelity_data": high if planar else None,
    }
