"""A posterior in the hand: draws, verdict, expectations, figures; and `pflow.load`, which reads it
from the results of `pflow.infer` or of the pipeline.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pflow import posterior as stores
from pflow.errors import PflowError
from pflow.notebook.card import is_carded
from pflow.notebook.configuration import FLOW
from pflow.notebook.experiment import Place, run_configured
from pflow.notebook.given import given_problem
from pflow.plotting.posterior_figures import plot_one, plot_posterior
from pflow.storage.layout import ExperimentFolder, MethodFolder, RunFolder, root_file
from pflow.storage.origins import read_origin
from pflow.storage.text_files import read_json

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["Result", "Verdict", "load"]


class Verdict(str):
    """trustworthy, usable with care, or do not use.

    Attributes:
        reasons: why, one sentence each.
    """

    reasons: tuple[str, ...]

    def __new__(cls, verdict: str, reasons: tuple[str, ...]) -> Verdict:
        made = super().__new__(cls, verdict)
        made.reasons = reasons
        return made


class Result:
    """The posterior of one observation, read from its files when it is asked for.

    Arguments:
        run: the folder of the run.

    Attributes:
        folder: that folder, with `posterior.zarr`, `metrics.json` and the weights of the flow.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run, self.folder = run, run.folder

    @cached_property
    def posterior(self) -> xr.DataTree:
        """The whole store, in ArviZ's schema (docs/store.md)."""
        return stores.load_posterior(self.folder)

    @property
    def draws(self) -> xr.Dataset:
        """Draws of the flow: `x` (chain, draw, ...), and `physical` beside it where x are
        coordinates of bounded parameters. They have weights, which
        `expectation` and `resample` use.
        """
        return self.posterior["posterior"].to_dataset()

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Accuracy, cost and verdict; units are in the names."""
        return read_json(self._run.metrics, "verdict", "verdict_reasons")

    @property
    def verdict(self) -> Verdict:
        """Whether to trust it, with `reasons`."""
        return Verdict(self.metrics["verdict"], tuple(self.metrics["verdict_reasons"]))

    @property
    def evaluations(self) -> int:
        """Evaluations of the expensive operator that fine-tuning rests on."""
        return int(self.metrics["evaluations"])

    def expectation(self, f: Callable[[np.ndarray], Any] | None = None) -> xr.DataArray:
        r""":math:`E[f(x)\,|\,y]`, importance-weighted where the weights are supported (a warning
        says when they are not).

        Arguments:
            f: of a batch of draws, (draws, *parameters), in physical parameters, to one value or
                array for each; absent: the parameters themselves, and so their posterior mean.

        Raises:
            PflowError: `f` gives another number of values than draws.
        """
        draws = self._parameters
        if f is None:
            return stores.expectation(self.posterior, draws)
        chains, count = draws.shape[:2]
        values = np.asarray(f(draws.values.reshape(chains * count, *draws.shape[2:])))
        if values.ndim == 0 or len(values) != chains * count:
            raise PflowError(
                f"`f` must give one value or array for each of the {chains * count} draws, and gave"
                f" the shape {values.shape}: compute along the later axes of its argument"
            )
        import xarray as xr

        axes = [f"f_dim_{i}" for i in range(values.ndim - 1)]
        shaped = values.reshape(chains, count, *values.shape[1:])
        return stores.expectation(
            self.posterior, xr.DataArray(shaped, dims=("chain", "draw", *axes))
        )

    def resample(self, n: int = 1000, seed: int = 0) -> xr.DataArray:
        """n equally weighted draws in physical parameters, (draw, ...); a warning says where the
        weights are not supported and all draws weigh the same.
        """
        import xarray as xr

        groups = {
            "posterior": xr.Dataset({"x": self._parameters}),
            "sample_stats": self.posterior["sample_stats"].to_dataset(),
        }
        return stores.resample(xr.DataTree.from_dict(groups), n, seed)

    def plot(self, kind: str | None = None, parameters: Sequence[str] | None = None) -> Figure:
        """One of the figures that `pflow plot` and the report show.

        Arguments:
            kind: `maps` of a field, `pairs` or `marginals` of up to eight parameters, `prediction`
                against the data; absent: the first of them that applies.
            parameters: names of those in `pairs` and `marginals`; absent: those that the data
                contract most.

        Raises:
            PflowError: this posterior has no such figure or parameter.
        """
        return plot_one(self.posterior, kind, parameters)

    def plots(self, parameters: Sequence[str] | None = None) -> dict[str, Figure]:
        """All of these figures by name."""
        return plot_posterior(self.posterior, parameters)

    def more(self, evaluations: int, *, problem: Any = None, threads: int = 1) -> Result:
        """The posterior after so many further evaluations; those that are known are not repeated.
        The files are replaced.

        Arguments:
            evaluations: in addition to the budget so far.
            problem: needed in another Python process than that of `pflow.infer`, where the problem
                was an object.
            threads: CPU threads of torch.

        Raises:
            PflowError: the number is not positive, the problem is another one, or this result was
                not made by `pflow.infer`.
        """
        if evaluations < 1:
            raise PflowError(f"`evaluations` (={evaluations}) must be positive")
        observation, method = self.folder.parents[1].name, self.folder.parent.name
        place = Place(self.folder.parents[4], self._experiment)
        experiment = place.known()
        settings = experiment.get("finetune", {}).get(method, {})
        if "evaluations" not in settings:
            raise PflowError(
                f"{self.folder} was not made by pflow.infer with a budget: raise"
                f" experiments.{place.name}.finetune.{method}.evaluations in its"
                " configuration, and run snakemake"
            )
        settings["evaluations"] = self._budget(settings["evaluations"]) + int(evaluations)
        if problem is not None:
            experiment["problem"] = given_problem(problem).entry
        has_flow = is_carded(place.folder.pretrained(FLOW).folder)
        return Result(
            run_configured(place, experiment, observation, method, has_flow, threads=threads)
        )

    @property
    def _experiment(self) -> str:
        return self.folder.parents[3].name

    def _budget(self, configured: int) -> int:
        """The budget that made this result; that of the configuration may be of a call that failed
        since.
        """
        origin = read_origin(self._run.weights)
        made_by = {} if origin is None else json.loads(origin.settings)
        return int(made_by.get("method", {}).get("evaluations", configured))

    @property
    def _parameters(self) -> xr.DataArray:
        """Draws in physical parameters."""
        return self.draws["physical" if "physical" in self.draws else "x"]

    def __repr__(self) -> str:
        lines = [f"{self.verdict} after {self.evaluations} evaluations: {self.folder}"]
        return "\n".join(lines + [f"  - {reason}" for reason in self.verdict.reasons])


def load(
    path: str | Path,
    *,
    observation: str | None = None,
    method: str | None = None,
    seed: int | None = None,
) -> Result:
    """A posterior that `pflow.infer` or the pipeline made.

    Arguments:
        path: folder of the run, `results/EXPERIMENT/posteriors/OBSERVATION/METHOD/seed-0`; or of
            the method, or of the experiment, where the others choose among its runs.
        observation: of the run; absent: any.
        method: of the run; absent: any.
        seed: of the run; absent: any.

    Raises:
        PflowError: there is no such run, or more than one.
    """
    folder = Path(path)
    run = RunFolder(folder)
    found = [run] if root_file(run.posterior).is_file() else MethodFolder(folder).sampled()
    if not found:
        everywhere = ExperimentFolder(folder).run(observation or "*", method or "*", "*").folder
        methods = sorted(folder.glob(str(everywhere.parent.relative_to(folder))))
        found = [run for place in methods for run in MethodFolder(place).sampled()]
    if seed is not None:
        found = [run for run in found if run.seed == seed]
    if not found:
        raise PflowError(
            f"{folder} holds no posterior: name a folder such as"
            " results/EXPERIMENT/posteriors/OBSERVATION/METHOD/seed-0, after pflow.infer or"
            " snakemake"
        )
    if len(found) > 1:
        names = [run.folder.relative_to(folder).as_posix() for run in found]
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise PflowError(
            f"{folder} holds {len(found)} posteriors, and one is wanted: name the folder of one, or"
            f" choose by `observation`, `method` and `seed`: {shown}"
        )
    if not found[0].metrics.is_file():
        raise PflowError(f"{found[0].folder} has no metrics.json yet: run snakemake to its end")
    return Result(found[0])
