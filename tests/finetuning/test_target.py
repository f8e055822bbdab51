"""The store of evaluations belongs to one target: scores are never taken from a store that holds
values alone.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pflow.config.flows import CouplingFlowSettings
from pflow.config.jobs import FinetuneJobSettings
from pflow.config.methods import ImportanceSettings, ReverseKLSettings, ScoreReplaySettings
from pflow.config.problems import problem_settings
from pflow.errors import PflowError
from pflow.finetuning.target import build_target, target_identity
from pflow.problems import build_problem

SHARED = {"flow": "coupling", "start": "pretrained", "evaluations": 256}


def settings_of(method) -> FinetuneJobSettings:
    return FinetuneJobSettings(
        problem_settings("rosenbrock"), CouplingFlowSettings(), method, 0, "cpu", "e", "o", "m"
    )


def test_methods_with_and_without_scores_do_not_share_a_store():
    y = torch.zeros(1, 2)
    settings = settings_of(ScoreReplaySettings(**SHARED))

    def identity(scores=True, **changes):
        changed = dataclasses.replace(settings, **changes)
        return target_identity(changed, changed.method, y, scores)

    assert identity() == identity(method=ReverseKLSettings(**SHARED)) == identity(seed=1)
    assert identity() != identity(False, method=ImportanceSettings(**SHARED))
    assert identity() != identity(problem=problem_settings("rosenbrock", noise_std=0.5))
    assert identity() != target_identity(settings, settings.method, y + 1, True)


def test_an_answer_that_has_changed_names_the_command_that_forgets_it(tmp_path):
    settings, x = settings_of(ScoreReplaySettings(**SHARED)), torch.ones(8, 2)

    def target(problem):
        y = torch.zeros(1, 2)
        return build_target(settings, settings.method, problem, y, None, tmp_path / "e.zarr")

    first = target(build_problem("rosenbrock"))
    first.evaluate(x)
    first.store.flush()
    problem = build_problem("rosenbrock")
    problem.high_fidelity.forward = lambda x: torch.zeros_like(x)
    with pytest.raises(PflowError, match="run `python -m pflow forget e` and snakemake"):
        target(problem).evaluate(x)
