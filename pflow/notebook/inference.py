"""`pflow.infer`: from a problem and an observation to a posterior with a verdict, in one call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pflow.config.results_folder import results_folder
from pflow.errors import PflowError
from pflow.notebook.configuration import (
    configuration_file,
    default_experiment,
    merged,
    read_configuration,
)
from pflow.notebook.experiment import make_posterior
from pflow.notebook.given import given_problem
from pflow.notebook.result import Result
from pflow.problems.base import Problem
from pflow.storage.atomic import replacing

__all__ = ["infer"]


def infer(
    problem: Any,
    y: Any,
    evaluations: int = 256,
    *,
    folder: str | Path = "results",
    name: str | None = None,
    observation: str = "y",
    settings: Mapping[str, Any] | None = None,
    replace: bool = False,
    threads: int = 1,
) -> Result:
    """The posterior p(x given y) of one observation: the stages of the pipeline in this process.

    Pairs (x, y) of the low-fidelity operator train a flow; the flow is fine-tuned to `y` with at
    most `evaluations` of the expensive operator; 1000 draws get their importance weights, each by
    one more forward of the operator, and a verdict. Everything lies in `folder`/`name`, as if
    `snakemake` had made it. A second call returns at once, and one that was stopped continues.

    Arguments:
        problem: what `pflow.problem` makes, or any `pflow.problems.Problem`; the name of a problem
            that comes with pflow; the path of a Python file with a problem's class; a mapping as
            `problem:` in a configuration.
        y: the data, of the shape of one observation.
        evaluations: budget, in forwards with gradient of the expensive operator. In a later call
            it may be larger: evaluations that are known are not repeated.
        folder: of all results.
        name: of the results of this problem; by default the problem's.
        observation: of this `y`; several observations of a problem share one pretraining.
        settings: changes of the experiment, as in a configuration:
            `{"simulate": {"train": 20000}, "sample": {"draws": 5000}}` (docs/configuration.md).
        replace: make results of other settings again, in place of an error.
        threads: CPU threads of torch.

    Raises:
        PflowError: an argument is invalid, or results of other settings lie in the folder.
    """
    _require_budget(evaluations)
    given = given_problem(problem)
    name = _file_name(given.name) if name is None else name
    for key, value in (("name", name), ("observation", observation)):
        if not re.fullmatch(r"[A-Za-z0-9_-]+", value):
            raise PflowError(
                f"`{key}` (={value!r}) becomes a folder: use letters, digits, '_' and '-'"
            )
    data = _checked(y, given.problem)
    root = Path(results_folder(str(folder)))
    experiment = default_experiment(given.entry, name, given.problem.model_shape, evaluations)
    experiment = merged(experiment, settings or {})
    file = configuration_file(root, name)
    known = read_configuration(file).get("experiments", {}).get(name, {}).get("observations", {})
    measured = _write_data(root / name / "data" / f"{observation}.npy", data, observation, replace)
    experiment["observations"] = {**known, observation: {"file": measured.as_posix()}}
    configuration = {"results": root.as_posix(), "experiments": {name: experiment}}
    run = make_posterior(configuration, name, observation, replace=replace, threads=threads)
    return Result(run)


def _require_budget(evaluations: Any) -> None:
    if isinstance(evaluations, bool) or not isinstance(evaluations, (int, np.integer)):
        raise PflowError(f"`evaluations` (={evaluations!r}) must be a whole number")
    if evaluations < 1:
        raise PflowError(f"`evaluations` (={evaluations}) must be positive")


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "problem"


def _checked(y: Any, problem: Problem) -> np.ndarray:
    """y as float64, (*data).

    Raises:
        PflowError: it has another shape, or holds NaN where data are not missing.
    """
    try:
        data = np.asarray(y.detach().cpu() if isinstance(y, torch.Tensor) else y, dtype=float)
    except (TypeError, ValueError) as error:
        raise PflowError(
            f"`y` (a {type(y).__name__}) must be an array of numbers ({error})"
        ) from error
    shape = tuple(problem.data_shape)
    if data.shape not in (shape, (1, *shape)):
        raise PflowError(
            f"`y` has the shape {data.shape}, and one observation of this problem has {shape}:"
            " bring it to that shape; several observations are one call each"
        )
    data = data.reshape(shape)
    kept = problem.noise.recorded(torch.from_numpy(data.copy())[None])[0].numpy()
    bad = np.argwhere(~np.isfinite(kept))
    if len(bad):
        raise PflowError(
            f"`y` must be finite and has {len(bad)} NaN or infinite values, the first at"
            f" {bad[0].tolist()}: fill them in, or give the problem a MaskedNoise"
        )
    return data


def _write_data(file: Path, data: np.ndarray, observation: str, replace: bool) -> Path:
    """The data as a file that the pipeline reads.

    Raises:
        PflowError: other data lie there.
    """
    if file.is_file():
        try:
            there = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            there = None
        if there is not None and np.array_equal(there, data, equal_nan=True):
            return file
        if not replace:
            raise PflowError(
                f"`y` differs from the observation `{observation}` in {file}: give it another name,"
                f" such as observation='{observation}2'; or replace=True makes again what follows"
            )
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.save(stream, data)
    return file
