"""Which method runs at which observation with which seeds, and which observations have a
reference: the product of all of them, restricted by `only`, `except` and `seeds`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from pflow.config.experiment import ExperimentSettings
from pflow.config.methods import MethodSettings
from pflow.config.trust import ReferenceSettings
from pflow.settings.suggestion import did_you_mean

__all__ = [
    "has_reference",
    "is_restricted",
    "mistakes_of_runs",
    "run_names",
    "seeds_at",
    "seeds_of",
]

Selecting = MethodSettings | ReferenceSettings


def selects(entry: Selecting, observation: str) -> bool:
    """Whether a method or a reference is of this observation."""
    return (entry.only is None or _matches(entry.only, observation)) and not (
        entry.except_ is not None and _matches(entry.except_, observation)
    )


def seeds_of(experiment: ExperimentSettings, method: str) -> list[int]:
    """The seeds of a method: its own, or the experiment's."""
    own = experiment.finetune[method].seeds
    return experiment.seeds if own is None else own


def seeds_at(experiment: ExperimentSettings, observation: str, method: str) -> list[int]:
    """The seeds with which a method runs at an observation; none where it does not run."""
    runs = selects(experiment.finetune[method], observation)
    return seeds_of(experiment, method) if runs else []


def run_names(experiment: ExperimentSettings) -> Iterator[tuple[str, str, int]]:
    """(observation, method, seed) of every run."""
    for observation in experiment.observations:
        for method in experiment.finetune:
            for seed in seeds_at(experiment, observation, method):
                yield observation, method, seed


def is_restricted(experiment: ExperimentSettings) -> bool:
    """Whether some method does not run at every observation with the experiment's seeds."""
    return any(
        (entry.only, entry.except_, entry.seeds) != (None, None, None)
        for entry in experiment.finetune.values()
    )


def has_reference(experiment: ExperimentSettings, observation: str) -> bool:
    """Whether there is a reference posterior at an observation of the configuration."""
    reference = experiment.reference
    return (
        reference.kind != "none"
        and observation in experiment.observations
        and selects(reference, observation)
    )


def mistakes_of_runs(where: str, experiment: ExperimentSettings) -> list[str]:
    """Names of observations and seeds that cannot be, in words."""
    mistakes = _of_seeds(f"{where}.seeds", experiment.seeds)
    entries: dict[str, Selecting] = {
        f"{where}.finetune.{name}": entry for name, entry in experiment.finetune.items()
    }
    for name, entry in experiment.finetune.items():
        if entry.seeds is not None:
            mistakes += _of_seeds(f"{where}.finetune.{name}.seeds", entry.seeds)
        mistakes += _of_reuse(f"{where}.finetune.{name}", experiment, name)
    for place, selecting in {**entries, f"{where}.reference": experiment.reference}.items():
        mistakes += _of_selection(place, selecting, list(experiment.observations))
    return mistakes


def _of_seeds(place: str, seeds: list[int]) -> list[str]:
    if seeds and len(set(seeds)) == len(seeds) and min(seeds) >= 0:
        return []
    return [f"`{place}` (={seeds}) must be one or more different whole numbers from 0"]


def _of_selection(place: str, entry: Selecting, observations: list[str]) -> list[str]:
    mistakes = []
    for key, patterns in (("only", entry.only), ("except", entry.except_)):
        if patterns is not None and not patterns:
            mistakes.append(
                f"`{place}.{key}` (=[]) must name at least one observation: remove the key, or name"
                f" some of {_listed(observations)}"
            )
        for pattern in patterns or ():
            if not any(fnmatchcase(name, pattern) for name in observations):
                known = f"there is {_listed(observations)}"
                mistakes.append(
                    f"`{place}.{key}` (='{pattern}') must be the name of an observation, or a"
                    f" pattern that matches some: {did_you_mean(pattern, observations, known)}"
                )
    if not mistakes and observations and not any(selects(entry, name) for name in observations):
        way_out = "set its kind to none" if isinstance(entry, ReferenceSettings) else "remove it"
        mistakes.append(
            f"`{place}.except` (={entry.except_}) must leave at least one observation: {way_out},"
            " or except fewer"
        )
    return mistakes


def _of_reuse(place: str, experiment: ExperimentSettings, method: str) -> list[str]:
    reused = getattr(experiment.finetune[method], "reuse", "")
    if reused not in experiment.finetune:  # said where methods are checked
        return []
    without = [
        f"{observation}, seed {seed}"
        for observation in experiment.observations
        for seed in seeds_at(experiment, observation, method)
        if seed not in seeds_at(experiment, observation, reused)
    ]
    if not without:
        return []
    return [
        f"`{place}.reuse` (='{reused}') must run wherever this method does, and does not at"
        f" {without[0]}: restrict both alike (only, except, seeds)"
    ]


def _matches(patterns: list[str], observation: str) -> bool:
    return any(fnmatchcase(observation, pattern) for pattern in patterns)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8]) or "none"
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
