"""Settings of methods that contradict each other are refused in planning."""

from __future__ import annotations

import pytest

from pflow.config.method_checks import mistakes_of_methods
from pflow.config.methods import (
    ReverseKLSettings,
    ScoreReplaySettings,
    SurrogateSettings,
)


@pytest.mark.parametrize(
    ("kind", "key"), [(ReverseKLSettings, "batch"), (ScoreReplaySettings, "draw")]
)
def test_a_budget_below_one_round_is_refused(kind, key):
    def mistakes(evaluations):
        method = kind(flow="a", start="scratch", evaluations=evaluations, **{key: 16})
        return mistakes_of_methods("experiments.a.finetune", {"m": method})

    assert mistakes(16) == []
    (mistake,) = mistakes(15)
    assert f"`experiments.a.finetune.m.evaluations` (=15) must be at least its `{key}`" in mistake


def test_a_target_that_a_model_of_f_cannot_measure_is_refused():
    method = SurrogateSettings(flow="a", start="random", evaluations=64, target_elbo_change=0.1)
    (mistake,) = mistakes_of_methods("experiments.a.finetune", {"m": method})
    assert "`experiments.a.finetune.m.target_elbo_change` (=0.1) cannot be measured" in mistake
    assert "target_shift" in mistake
