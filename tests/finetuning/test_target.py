"""The store of evaluations belongs to one target: scores are never taken from a store that holds
values alone.
"""

from __future__ import annotations

import dataclasses

import torch

from pflow.config.flows import CouplingFlowSettings
from pflow.config.jobs import FinetuneJobSettings
from pflow.config.methods import ImportanceSettings, ReverseKLSettings, ScoreReplaySettings
from pflow.config.problems import problem_settings
from pflow.finetuning.target import target_identity

SHARED = {"flow": "coupling", "start": "pretrained", "evaluations": 256}


def test_methods_with_and_without_scores_do_not_share_a_store():
    y = torch.zeros(1, 2)
    settings = FinetuneJobSettings(
        problem_settings("rosenbrock"),
        CouplingFlowSettings(),
        ScoreReplaySettings(**SHARED),
        0,
        "cpu",
        "e",
        "o",
        "m",
    )

    def identity(scores=True, **changes):
        changed = dataclasses.replace(settings, **changes)
        return target_identity(changed, changed.method, y, scores)

    assert identity() == identity(method=ReverseKLSettings(**SHARED)) == identity(seed=1)
    assert identity() != identity(False, method=ImportanceSettings(**SHARED))
    assert identity() != identity(problem=problem_settings("rosenbrock", noise_std=0.5))
    assert identity() != target_identity(settings, settings.method, y + 1, True)
