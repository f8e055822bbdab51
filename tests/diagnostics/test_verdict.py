"""Broken posteriors are flagged and sound ones are not: at least 19 of 20 and at most 1 of 20, with
a reference and without.
"""

from __future__ import annotations

import numpy as np
import pytest

from pflow.diagnostics.two_sample import c2st
from pflow.diagnostics.verdict import DO_NOT_USE, TRUSTWORTHY, WITH_CARE, judge
from tests.support.posterior_cases import RULES, broken, sound

GOOD = {
    "ess_fraction": 0.95,
    "pareto_k": 0.2,
    "score_error": 0.02,
    "predictive_chi_square": 0.98,
    "predictive_chi_square_spread": 0.06,
    "predictive_p_value": 0.9,
    "zero_weight_fraction": 0.0,
}

NEAR_THE_REFERENCE = {
    "mean_error_posterior_std": 0.05,
    "std_error_posterior_std": 0.03,
    "coverage_90": 0.9,
}


def verdict(fine_tuned=True, unknowns=2, linear=True, **changes):
    metrics = {name: value for name, value in (GOOD | changes).items() if value is not None}
    return judge(metrics, RULES, unknowns=unknowns, fine_tuned=fine_tuned, linear=linear)


@pytest.mark.parametrize("with_reference", [False, True])
def test_broken_posteriors_are_flagged(with_reference):
    cases = broken()
    assert len(cases) == 20
    passed = [case.name for case in cases if case.judgement(with_reference).verdict == TRUSTWORTHY]
    assert len(passed) <= 1, passed


@pytest.mark.parametrize("with_reference", [False, True])
def test_sound_posteriors_are_not(with_reference):
    cases = sound()
    assert len(cases) == 20
    flagged = {
        case.name: judged.reasons[0]
        for case in cases
        if (judged := case.judgement(with_reference)).verdict != TRUSTWORTHY
    }
    assert len(flagged) <= 1, flagged


@pytest.mark.parametrize(
    ("changes", "expected", "word"),
    [
        ({}, TRUSTWORTHY, "k-hat 0.20"),
        ({"pareto_k": 0.65}, TRUSTWORTHY, "k-hat 0.65"),
        (
            {"pareto_k": 1.2, "ess_fraction": 0.93},
            TRUSTWORTHY,
            "93 %",
        ),  # k-hat of a near-perfect flow is noise
        ({"pareto_k": None, "ess_fraction": 1.0}, TRUSTWORTHY, "not defined"),
        ({"pareto_k": 0.8, "ess_fraction": 0.6}, WITH_CARE, "tails"),
        ({"pareto_k": 0.8, "ess_fraction": 0.4}, DO_NOT_USE, "cannot repair"),
        ({"ess_fraction": 0.3}, WITH_CARE, "use importance weights"),
        ({"ess_fraction": 0.01}, DO_NOT_USE, "cannot repair"),
        ({"ess_fraction": None}, DO_NOT_USE, "no draw has a positive importance weight"),
        ({"score_error": 0.9}, WITH_CARE, "score error"),
        ({"score_error": 9.0}, DO_NOT_USE, "score error"),
        ({"score_error": 0.9, "c2st": 0.5}, WITH_CARE, "score error"),  # of no reference
        ({"score_error": 0.9, "c2st": 0.55} | NEAR_THE_REFERENCE, TRUSTWORTHY, "mean 0.05"),
        ({"score_error": 0.9, "c2st": 0.65} | NEAR_THE_REFERENCE, WITH_CARE, "score error"),
        (
            {"score_error": 9, "c2st": 0.55} | NEAR_THE_REFERENCE | {"coverage_90": 0.8},
            DO_NOT_USE,
            "score error",
        ),
        ({"missed_mass": 0.5, "missed_mass_se": 0.02}, DO_NOT_USE, "no draws"),
        ({"missed_mass": 0.5, "missed_mass_se": 0.5}, TRUSTWORTHY, "k-hat"),
        (
            {"predictive_chi_square": 1.5, "predictive_p_value": 0.005},
            WITH_CARE,
            "do not explain the data",
        ),
        ({"predictive_chi_square": 1.04, "predictive_p_value": 1e-9}, TRUSTWORTHY, "k-hat"),
        (
            {"predictive_chi_square": 1.1, "predictive_p_value": 1e-9},
            WITH_CARE,
            "do not explain the data",
        ),
        (
            {"predictive_chi_square": 0.2, "predictive_p_value": 1e-9},
            WITH_CARE,
            "fit better than the assumed noise allows",
        ),
        ({"zero_weight_fraction": 0.002}, WITH_CARE, "no posterior density"),
        ({"zero_weight_fraction": 0.2}, DO_NOT_USE, "no posterior density"),
        (
            {"fine_tuning_sbc_p_value": 1e-6, "fine_tuning_replicates": 30},
            WITH_CARE,
            "not calibrated over 30 replicate observations",
        ),
        ({"mean_error_posterior_std": 0.3, "std_error_posterior_std": 0.02}, WITH_CARE, "mean 0.3"),
        (
            {"mean_error_posterior_std": 0.01, "std_error_posterior_std": 0.5},
            DO_NOT_USE,
            "standard deviation 0.5",
        ),
        (
            {"mean_error_posterior_std": 0.01, "std_error_posterior_std": 0.01, "coverage_90": 0.8},
            WITH_CARE,
            "90 % coverage 0.80 of 0.90",
        ),
    ],
)
def test_each_rule(changes, expected, word):
    judged = verdict(**changes)
    assert judged.verdict == expected
    assert word in judged.reasons[0]


def test_lost_correlations_are_not_excused_by_right_marginals():
    generator = np.random.default_rng(0)
    places = np.arange(128)
    covariance = 0.8 ** np.abs(places[:, None] - places)
    truth = generator.multivariate_normal(np.zeros(128), covariance, 2000)
    other = generator.multivariate_normal(np.zeros(128), covariance, 1000)

    assert verdict(score_error=0.5, c2st=c2st(other, truth), **NEAR_THE_REFERENCE)[0] == TRUSTWORTHY

    alone = np.stack([generator.permutation(column) for column in other.T], 1)
    assert verdict(score_error=0.5, c2st=c2st(alone, truth), **NEAR_THE_REFERENCE)[0] == WITH_CARE


def test_collapsed_weights_say_nothing_in_many_dimensions_but_scores_do():
    collapsed = {"pareto_k": 3.0, "ess_fraction": 1e-4}
    judged = verdict(unknowns=4096, **collapsed)
    assert judged.verdict == TRUSTWORTHY and any(
        "k-hat is uninformative in 4096 dimensions" in reason for reason in judged.reasons
    )
    assert verdict(unknowns=4096, **collapsed, score_error=2.0).verdict == DO_NOT_USE
    blind = verdict(unknowns=4096, **collapsed, score_error=None)
    assert blind.verdict == WITH_CARE and any(
        "nothing here could have told" in reason for reason in blind.reasons
    )


def test_a_flow_that_was_not_fine_tuned_is_not_trusted_blindly():
    collapsed = {"pareto_k": 3.0, "ess_fraction": 1e-4}
    assert (
        verdict(fine_tuned=False).verdict == TRUSTWORTHY
    )  # its weights at this observation are good
    assert verdict(fine_tuned=False, unknowns=4096, **collapsed).verdict == WITH_CARE
    assert (
        verdict(fine_tuned=False, unknowns=4096, **collapsed, ood_p_value=0.002).verdict
        == DO_NOT_USE
    )
    assert verdict(fine_tuned=False, ood_p_value=0.002).verdict == WITH_CARE
    assert (
        verdict(fine_tuned=True, ood_p_value=0.002).verdict == TRUSTWORTHY
    )  # that is what fine-tuning is for
    assert (
        verdict(fine_tuned=False, unknowns=4096, **collapsed, sbc_p_value=1e-4).verdict == WITH_CARE
    )


def test_with_pairs_alone_calibration_decides():
    """No operator: no weights, no misfit, no scores. Untested is `with care`, shown to be wrong is
    not.
    """

    def judged(**metrics):
        return judge(metrics, RULES, unknowns=2, fine_tuned=False)

    sound = judged(sbc_p_value=0.4, tarp_p_value=0.3, local_c2st_p_value=0.2, ood_p_value=0.5)
    assert (
        sound.verdict == WITH_CARE
        and "no operator is known: there are no importance weights, and no misfit, to judge by"
        in sound.reasons
    )
    for name in ("sbc_p_value", "tarp_p_value", "local_c2st_p_value"):
        assert judged(**{name: 0.005}).verdict == WITH_CARE  # evidence, below `significance`
        proved = judged(**{name: 5e-5})
        assert (
            proved.verdict == DO_NOT_USE and "p 5e-05" in proved.reasons[0]
        )  # proof, below its square
    assert judged(ood_p_value=0.002).verdict == DO_NOT_USE
    assert (
        verdict(fine_tuned=False, sbc_p_value=1e-9).verdict == TRUSTWORTHY
    )  # its weights at this observation say more


def test_rules_are_settings():
    strict = RULES | {"ess_trustworthy": 0.99}
    assert judge(GOOD, strict, unknowns=2, fine_tuned=True).verdict == WITH_CARE


def test_in_many_dimensions_other_modes_of_a_nonlinear_operator_stay_possible():
    local = {
        "ess_fraction": 0.001,
        "pareto_k": 3.0,
        "zero_weight_fraction": 0.0,
        "score_error": 0.1,
        "predictive_chi_square": 1.0,
        "predictive_p_value": 0.5,
    }
    known = local | {"mean_error_posterior_std": 0.05, "std_error_posterior_std": 0.05}
    verdicts = [
        judge(metrics, RULES, unknowns=256, fine_tuned=True, linear=linear).verdict
        for metrics in (local, known)
        for linear in (True, False)
    ]
    assert verdicts == ["trustworthy", "usable with care", "trustworthy", "trustworthy"]
    assert any(
        "other modes" in reason
        for reason in judge(local, RULES, unknowns=256, fine_tuned=True, linear=False).reasons
    )
