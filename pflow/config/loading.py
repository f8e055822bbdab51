"""Decodes and checks the configuration that YAML holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from pflow.config.cross_checks import mistakes_of_experiment
from pflow.config.data import expand_observations
from pflow.config.decoding import decode
from pflow.config.experiment import Configuration, ExperimentSettings
from pflow.config.image_counts import mistakes_of_images
from pflow.config.problems import has_operator
from pflow.config.results_folder import results_folder
from pflow.config.user_problems import PairsOnlyProblemSettings
from pflow.errors import PflowError

__all__ = ["load_configuration"]


def load_configuration(
    data: object,
    reserved: Collection[str] = (),
    *,
    data_made: bool = False,
    planned: bool = False,
) -> Configuration:
    """Decode and cross-check the configuration.

    Arguments:
        data: what YAML holds.
        reserved: names that no experiment may have, because `snakemake NAME` means another target.
        data_made: whether measured data may still have to be made, by rules outside of pflow.
        planned: whether counting the images of a file is left to the plan of the workflow, which
            has been made or will be.

    Raises:
        PflowError: one line for each mistake.
    """
    if not isinstance(data, dict) or not data:
        raise PflowError(
            "the configuration is empty: it needs the key `experiments` (see config.yaml of pflow)"
        )
    configuration = decode(Configuration, data, "")
    configuration = dataclasses.replace(
        configuration,
        results=results_folder(configuration.results),
        experiments={
            name: _completed(f"experiments.{name}", e, data_made)
            for name, e in configuration.experiments.items()
        },
    )
    checks = [mistakes_of_experiment] if planned else [mistakes_of_experiment, mistakes_of_images]
    mistakes = [
        m
        for name, e in configuration.experiments.items()
        for mistakes_of in checks
        for m in mistakes_of(f"experiments.{name}", e)
    ]
    if not configuration.experiments:
        mistakes.append("`experiments` (={}) must have at least one entry")
    mistakes += [
        f"`experiments.{name}` has the name of a stage or a rule, and `snakemake {name}` would be"
        " ambiguous: choose another name"
        for name in configuration.experiments
        if name in reserved
    ]
    if mistakes:
        raise PflowError("\n".join(mistakes))
    return configuration


def _completed(where: str, experiment: ExperimentSettings, data_made: bool) -> ExperimentSettings:
    """The experiment completed from its files: the observations that a glob matches, the shapes of
    pairs without an operator.
    """
    e = dataclasses.replace(
        experiment,
        observations=expand_observations(
            experiment.observations, f"{where}.observations", data_made=data_made
        ),
    )
    if has_operator(e.problem):
        return e
    if e.pairs is None:
        raise PflowError(
            f"`{where}.problem` is missing: name a problem; or, to train on pairs (x, y) alone,"
            f" give their file in `{where}.pairs`"
        )
    _, *shapes = e.pairs.shapes(f"{where}.pairs")
    for key, shape in zip(("model_shape", "data_shape"), shapes, strict=True):
        stated = getattr(e.problem, key)
        if stated is not None and tuple(stated) != shape:
            raise PflowError(
                f"`{where}.problem.{key}` (={stated}) must be that of {e.pairs.file},"
                f" {list(shape)}: correct it, or leave it out"
            )
    assert isinstance(e.problem, PairsOnlyProblemSettings), "it has no operator"
    problem = dataclasses.replace(
        e.problem, model_shape=list(shapes[0]), data_shape=list(shapes[1])
    )
    reference = (
        dataclasses.replace(e.reference, kind="none")
        if e.reference.kind == "exact"
        else e.reference
    )
    return dataclasses.replace(e, problem=problem, reference=reference)
