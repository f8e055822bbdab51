"""The search for a corrected flow: bisection over candidates, of which few are made."""

from __future__ import annotations

import pytest
import torch

from pflow.finetuning.correction import explains_scores_clearly_better, first_accepted
from pflow.objectives.latent_correction import LatentCorrection


@pytest.mark.parametrize("first_good", [0, 1, 17, 30])
def test_bisection_finds_the_first_accepted_candidate_and_makes_few(first_good):
    made = []

    def make(candidate):
        made.append(candidate)
        return -candidate

    found = first_accepted(range(31), make, lambda result: -result >= first_good, tries=5)
    assert found == -first_good
    assert len(made) == len(set(made)) <= 5


def test_too_few_tries_give_the_best_candidate_tried_and_none_accepted_gives_none():
    assert first_accepted(range(31), int, lambda result: result >= 1, tries=2) == 7
    assert first_accepted(range(31), int, lambda result: False, tries=9) is None
    assert first_accepted([], int, lambda result: True, tries=9) is None


@pytest.mark.parametrize(
    ("flow_error", "error", "passes"), [(0.4, 0.1, True), (0.6, 0.1, False), (0.4, 0.3, False)]
)
def test_without_a_test_by_evaluations_the_scores_must_be_explained_clearly(
    flow_error, error, passes
):
    correction = LatentCorrection(torch.zeros(2), torch.eye(2), error, flow_error, points=9)
    assert explains_scores_clearly_better(correction) is passes
