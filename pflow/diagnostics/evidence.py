"""What each metric says about a posterior: a level and a sentence, by the rules of
`evaluate.verdict`. `verdict` puts them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = [
    "REMARK",
    "Evidence",
    "of_amortisation",
    "of_missed_mass",
    "of_predictions",
    "of_reference",
    "of_replicates",
    "of_scores",
    "of_weights",
]

REMARK = -1  # a sentence without a level


class Evidence(NamedTuple):
    """One sentence; its level is 0 (trustworthy), 1 (usable with care), 2 (do not use) or
    `REMARK`.
    """

    level: int
    reason: str


def _graded(value: float, good: float, usable: float) -> int:
    """Level of an error: small is good."""
    return 0 if value <= good else 1 if value <= usable else 2


def of_weights(
    metrics: Mapping[str, Any], rules: Mapping[str, float], unknowns: int
) -> list[Evidence]:
    """The importance weights: k-hat and the effective sample size."""
    ess, k = metrics.get("ess_fraction"), metrics.get("pareto_k")
    if "zero_weight_fraction" not in metrics and ess is None:
        return [
            Evidence(
                REMARK,
                "no operator is known: there are no importance weights, and no misfit, to judge by",
            )
        ]
    if ess is None:
        return [Evidence(2, "no draw has a positive importance weight")]
    shown = f"k-hat {k:.2f}" if k is not None else "k-hat not defined (equal weights)"
    shown += (
        f", effective sample size {100 * ess:.{0 if ess > 0.1 else 1}f} %"
        if ess > 0.001
        else ", effective sample size below 0.1 %"
    )
    reliable = ess > rules["ess_high"] or (k is not None and k < rules["pareto_k"])
    if unknowns > rules["weights_dimension"] and not (reliable and ess >= rules["ess_trustworthy"]):
        return [
            Evidence(
                REMARK,
                f"k-hat is uninformative in {unknowns} dimensions, where weights collapse even for"
                f" small errors ({shown})",
            )
        ]
    if reliable and ess >= rules["ess_trustworthy"]:
        noise = (
            " (k-hat is noise this close to perfect)"
            if k is not None and k >= rules["pareto_k"]
            else ""
        )
        return [Evidence(0, shown + noise)]
    if reliable and ess >= rules["ess_usable"]:
        return [Evidence(1, f"{shown}: use importance weights")]
    if not reliable and ess >= rules["ess_trustworthy"]:
        return [
            Evidence(
                1,
                f"{shown}: a few draws have far too little density, so do not trust the weights or"
                " the tails",
            )
        ]
    return [Evidence(2, f"{shown}: weights cannot repair this flow")]


def of_reference(metrics: Mapping[str, Any], rules: Mapping[str, float]) -> list[Evidence]:
    """Mean, standard deviations and coverage beside draws of the posterior itself."""
    evidence = []
    for name, text in (
        ("mean", "mean {:.2g} posterior standard deviations from the reference"),
        ("std", "standard deviation {:.2g} (relative) from the reference"),
    ):
        value = metrics.get(f"{name}_error_posterior_std")
        if value is not None:
            level = _graded(
                value, rules[f"{name}_error_trustworthy"], rules[f"{name}_error_usable"]
            )
            evidence.append(Evidence(level, f"{text.format(value)}"))
    if evidence and "coverage_90" in metrics:
        value = metrics["coverage_90"]
        level = _graded(abs(value - 0.9), rules["coverage_trustworthy"], rules["coverage_usable"])
        evidence.append(Evidence(level, f"90 % coverage {value:.2f} of 0.90"))
    return evidence


def of_scores(
    metrics: Mapping[str, Any], rules: Mapping[str, float], against_reference: list[Evidence]
) -> list[Evidence]:
    """Where F is rough, so is the score of the posterior, and no smooth density follows it: it does
    not count where draws of the posterior itself are like these, in their joint distribution too.
    """
    value = metrics.get("score_error")
    if value is None:
        return []
    shown = f"score error {value:.2g} per unknown (0 is perfect)"
    level = _graded(value, rules["score_error_trustworthy"], rules["score_error_usable"])
    accuracy = metrics.get("c2st", 1.0)
    agrees = against_reference and not any(e.level for e in against_reference)
    if level and agrees and accuracy <= rules["classifier_trustworthy"]:
        return [
            Evidence(
                REMARK,
                f"{shown} does not count: a classifier hardly tells the draws from the reference"
                f" (accuracy {accuracy:.2f}), so the gradient of F is rough, or wrong",
            )
        ]
    return [Evidence(level, shown)]


def of_missed_mass(
    metrics: Mapping[str, Any], rules: Mapping[str, float], unknowns: int
) -> list[Evidence]:
    """Mass of the posterior where the flow has no draws."""
    value, error = metrics.get("missed_mass"), metrics.get("missed_mass_se", 0.0)
    if value is None:
        return []
    level = _graded(
        max(0.0, value - 2 * error), rules["missed_mass_trustworthy"], rules["missed_mass_usable"]
    )
    if (
        level and unknowns > rules["weights_dimension"]
    ):  # log q of draws concentrates: a few percent of spread moves it past every draw of q
        return [
            Evidence(
                REMARK,
                f"missed mass is uninformative in {unknowns} dimensions, where small errors of the"
                f" spread look the same ({value:.2g})",
            )
        ]
    return (
        [Evidence(level, f"{value:.2g} of the posterior mass lies where the flow has no draws")]
        if level
        else []
    )


def of_predictions(
    metrics: Mapping[str, Any], rules: Mapping[str, float], compared: bool
) -> list[Evidence]:
    """Above 1 the draws may be wrong. Below 1 exact draws of noise-free data are too: that is with
    care at worst, and a remark where the draws were compared with a reference.
    """
    value, p = metrics.get("predictive_chi_square"), metrics.get("predictive_p_value")
    if value is None or p is None:
        return []
    shown = (
        f"predictive chi-square {value:.2f} (1 +-"
        f" {metrics.get('predictive_chi_square_spread', 0):.2f} expected)"
    )
    deviation = abs(value - 1)
    if (
        p >= rules["significance"] or deviation <= rules["predictive_trustworthy"]
    ):  # with very many data every deviation is significant
        return [Evidence(0, shown)]
    if value < 1:
        return [
            Evidence(
                REMARK if compared else 1,
                f"{shown}: the data fit better than the assumed noise allows; they have less noise,"
                " or the draws follow it",
            )
        ]
    proof = p < rules["significance"] ** 2 and deviation > rules["predictive_usable"]
    return [
        Evidence(
            2 if proof else 1,
            f"{shown}: the draws do not explain the data, or noise and operator are not as assumed",
        )
    ]


def of_replicates(metrics: Mapping[str, Any], rules: Mapping[str, float]) -> list[Evidence]:
    """Is the method calibrated over replicate observations? It speaks of the method, not of this
    observation: with care at worst.
    """
    evidence = []
    for name, text in (("sbc", "ranks"), ("tarp", "TARP")):
        p = metrics.get(f"fine_tuning_{name}_p_value")
        if p is not None:
            wrong = p < rules["significance"]
            said = "is not calibrated" if wrong else "shows no miscalibration"
            evidence.append(
                Evidence(
                    int(wrong),
                    f"fine-tuning {said} over {metrics['fine_tuning_replicates']} replicate"
                    f" observations ({text}, p {p:.2g})",
                )
            )
    return evidence


def of_amortisation(
    metrics: Mapping[str, Any], rules: Mapping[str, float], decided: bool
) -> list[Evidence]:
    """Not trained on this observation: do the observation and the flow's training fit together?"""
    evidence = []
    p = metrics.get("ood_p_value")
    if p is not None and p < rules["significance"]:
        evidence.append(
            Evidence(
                1 if decided else 2,
                f"the observation does not resemble the training data (p {p:.2g}): fine-tune",
            )
        )
    for name, text in (
        (
            "local_c2st_p_value",
            "the amortised flow is wrong near this observation (local classifier test",
        ),
        ("sbc_p_value", "the amortised flow is not calibrated over held-out pairs (ranks"),
        ("tarp_p_value", "the amortised flow is not calibrated over held-out pairs (TARP"),
    ):
        p = metrics.get(name)
        if p is not None and p < rules["significance"]:
            proof = (
                p < rules["significance"] ** 2 and "score_error" not in metrics
            )  # nothing that speaks of this observation stands against it
            evidence.append(
                Evidence(REMARK if decided else 2 if proof else 1, f"{text}, p {p:.2g})")
            )
    if not decided:
        evidence.append(
            Evidence(1, "not fine-tuned, and nothing at this observation has tested it")
        )
    return evidence
