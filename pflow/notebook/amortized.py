"""`pflow.pretrain`: a flow that knows the posterior of every observation like its training data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pflow.errors import PflowError
from pflow.execution.seeds import generator_for
from pflow.notebook.card import Card, is_carded, write_card
from pflow.notebook.configuration import FLOW, default_experiment, merged
from pflow.notebook.experiment import Place, make_flow, make_posterior
from pflow.notebook.given import given_problem
from pflow.notebook.observation import checked_data
from pflow.notebook.result import Result
from pflow.stages.io.weights import load_flow
from pflow.storage.store import read_pairs

__all__ = ["Amortized", "load_amortized", "pretrain"]

METHOD = "amortized"
BUDGET = 256  # of the fine-tuning that the configuration names, and that nothing here runs


class Amortized:
    """A pretrained flow and the problem that it was trained on.

    Arguments:
        card: its folder.
        problem: absent: only `save` works.

    Attributes:
        card: what it was trained on; `card.content` is a dict.
        name: of the problem.
        folder: with weights and card.
    """

    def __init__(self, card: Card, problem: Any = None) -> None:
        self.card, self.folder, self.name = card, card.folder, card.content["name"]
        self._given = None if problem is None else given_problem(problem)
        if self._given is not None:
            card.check(self._given.problem, strict=True)

    def save(self, folder: str | Path) -> Path:
        """Copy the flow with its card into one folder, to keep or to share.

        Raises:
            PflowError: something lies there.
        """
        target = Path(folder)
        if target.exists():
            raise PflowError(
                f"`folder` (={target}) must not exist yet: choose another, or delete it"
            )
        self.card.copy(target)
        return target

    def sample(self, y: Any, n: int = 1000, seed: int = 0) -> np.ndarray:
        """Draws of the amortised posterior at y, (n, *model): no evaluation of any operator, no
        weights, no verdict.

        Raises:
            PflowError: y has another shape or is not finite, or the problem is missing.
        """
        problem = self._require_problem().problem
        if n < 1:
            raise PflowError(f"`n` (={n}) must be at least 1")
        data = checked_data(y, problem)
        self.card.check_range(data)
        flow, _ = load_flow(self.card.flow.weights, torch.device("cpu"))
        summary = problem.summary(torch.from_numpy(data)[None].to(torch.get_default_dtype()))
        return flow.sample(summary, n, generator_for(seed, "amortized")).detach().numpy()

    def infer(
        self,
        y: Any,
        *,
        folder: str | Path = "results",
        observation: str = "y",
        replace: bool = False,
        threads: int = 1,
    ) -> Result:
        """The amortised posterior at y with importance weights and verdict, for which each draw is
        evaluated once; `pflow.infer(problem, y, amortized=self)` fine-tunes it.

        Arguments:
            y: the data, of the shape of one observation.
            folder: of all results.
            observation: name of this y.
            replace: make results of other settings again, in place of an error.
            threads: CPU threads of torch.

        Raises:
            PflowError: y has another shape or is not finite, or the problem is missing.
        """
        given = self._require_problem()
        data = checked_data(y, given.problem)
        self.card.check_range(data)
        experiment = default_experiment(given.entry, given.problem.model_shape, BUDGET)
        experiment = merged(experiment, self.card.content["experiment"])
        experiment["finetune"] = {METHOD: {"flow": FLOW, "objective": "none"}}
        run = make_posterior(
            Place.at(folder, self.name),
            experiment,
            observation,
            data,
            method=METHOD,
            pretrained=self.card,
            replace=replace,
            threads=threads,
        )
        return Result(run)

    def _require_problem(self) -> Any:
        if self._given is None:
            raise PflowError(
                f"the flow in {self.folder} needs its problem here: pflow.load_amortized(folder,"
                " problem)"
            )
        return self._given

    def __repr__(self) -> str:
        card = self.card.content
        return (
            f"Amortized({self.name}: y {tuple(card['data_shape'])} -> x"
            f" {tuple(card['model_shape'])}, {card['training']['pairs']} pairs, {self.folder})"
        )


def pretrain(
    problem: Any,
    *,
    folder: str | Path = "results",
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    replace: bool = False,
    threads: int = 1,
) -> Amortized:
    """Train a flow on low-fidelity pairs of a problem and calibrate it, as the pipeline does; at
    once where that is done.

    Arguments:
        problem: as for `pflow.infer`.
        folder: of all results.
        name: of the results of this problem; by default the problem's.
        settings: changes of the experiment, as in a configuration:
            `{"simulate": {"train": 20000}}`.
        replace: make results of other settings again, in place of an error.
        threads: CPU threads of torch.

    Raises:
        PflowError: an argument is invalid, or results of other settings lie in the folder.
    """
    given = given_problem(problem)
    place = Place.at(folder, name or given.name)
    experiment = default_experiment(given.entry, given.problem.model_shape, BUDGET)
    experiment = merged(experiment, settings or {})
    flow = make_flow(place, experiment, replace, threads)
    shards = sorted(place.folder.shard("train", 0).parent.glob("shard-*.zarr"))
    if shards or not is_carded(flow.folder):
        write_card(flow, place.name, experiment, given.problem, *read_pairs(shards))
    return Amortized(Card(flow.folder), problem)


def load_amortized(folder: str | Path, problem: Any = None) -> Amortized:
    """A pretrained flow that `pflow.pretrain` made or `Amortized.save` wrote.

    Arguments:
        folder: with its card.
        problem: what it was trained on, as for `pflow.infer`; checked against the card.

    Raises:
        PflowError: there is no such flow, or the problem is another one.
    """
    return Amortized(Card(Path(folder)), problem)
