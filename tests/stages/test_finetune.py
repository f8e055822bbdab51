"""The store of evaluations belongs to one target: scores are never taken from a store that holds values alone."""

from __future__ import annotations

import dataclasses

import torch

from pflow.config_flows import CouplingFlow
from pflow.config_problems import RosenbrockProblem
from pflow.config_methods import Importance, ReverseKL, ScoreReplay
from pflow.stage_settings import FinetuneSettings
from pflow.stages.finetune import _target_identity

SHARED = {"flow": "coupling", "start": "pretrained", "evaluations": 256}


def test_methods_with_and_without_scores_do_not_share_a_store():
    y = torch.zeros(1, 2)
    settings = FinetuneSettings(RosenbrockProblem(), CouplingFlow(), ScoreReplay(**SHARED), 0, "cpu", "e", "o", "m")

    def identity(**changes):
        changed = dataclasses.replace(settings, **changes)
        return _target_identity(changed, changed.method, y)

    assert identity() == identity(method=ReverseKL(**SHARED)) == identity(seed=1)
    assert identity() != identity(method=Importance(**SHARED))
    assert identity() != identity(problem=RosenbrockProblem(noise_std=0.5))
    assert identity() != _target_identity(settings, settings.method, y + 1)
