"""Settings of methods that contradict each other are refused in planning."""

from __future__ import annotations

import pytest

from pflow.config.methods import ReverseKLSettings, ScoreReplaySettings, mistakes_of_methods


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
