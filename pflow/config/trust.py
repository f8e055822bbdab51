"""Settings of the reference posterior, of calibration and of the verdict; part of the
configuration, see `pflow.config.experiment`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pflow.config.decoding import setting

__all__ = ["CalibrateSettings", "EvaluateSettings", "ReferenceSettings", "VerdictSettings"]


@dataclass(frozen=True)
class ReferenceSettings:
    """The reference posterior."""

    kind: Literal["exact", "nuts", "gaussian", "none"] = setting(
        "`exact`: independent draws, for problems whose posterior is known; `nuts`: Markov chains"
        " of the No-U-Turn sampler, which evaluate the expensive operator and are refused unless"
        " they converged; `gaussian`, for images: the exact posterior under a stationary Gaussian"
        " prior with the spectrum of the training images, a baseline and not the truth; `none`: no"
        " reference.",
        "exact",
    )
    draws: int = setting("Draws to store, of all chains together.", 10000, minimum=100)
    seed: int = setting("Seed of the draws.", 0, minimum=0)
    chains: int = setting("Chains of NUTS.", 4, minimum=2)
    tune: int = setting("Steps of each chain that adapt NUTS and are thrown away.", 500, minimum=50)
    largest_r_hat: float = setting("NUTS is refused above this R-hat.", 1.01, above=1)
    smallest_ess: float = setting(
        "NUTS is refused below this many effective draws, of the bulk and of the tails.",
        400.0,
        above=0,
    )
    largest_divergent: float = setting(
        "NUTS is refused above this share of divergent steps.", 0.001, minimum=0
    )
    only: list[str] | None = setting(
        "Observations that get a reference, names or patterns such as `survey-*`; absent: all.",
        None,
        omit_default=True,
    )
    except_: list[str] | None = setting(
        "Observations that get none, likewise.", None, omit_default=True
    )


@dataclass(frozen=True)
class CalibrateSettings:
    """Calibration of each pretrained flow over held-out pairs, and at each observation."""

    pairs: int = setting("Held-out pairs, at most (the test split of `simulate`).", 500, minimum=50)
    draws: int = setting("Draws of the flow for each pair.", 100, minimum=20)
    unknowns: int = setting(
        "Parameters whose ranks are tested, at most; evenly spaced over the model.", 16, minimum=1
    )
    seed: int = setting("Seed of the draws.", 0, minimum=0)
    fine_tuned: int = setting(
        "Replicate observations, drawn from the prior and the expensive operator, on which each"
        " method is fine-tuned anew, to test the calibration of its posteriors; each costs the"
        " method's evaluations once more (0: none; 20 or more tell something).",
        0,
        minimum=0,
    )


@dataclass(frozen=True)
class VerdictSettings:
    """The rules behind trustworthy / usable with care / do not use; the worst piece of evidence
    decides.
    """

    significance: float = setting(
        "p-values below count as evidence against; below its square, as proof.",
        0.01,
        above=0,
        below=1,
    )
    pareto_k: float = setting("Importance weights can be trusted for k-hat below.", 0.7, above=0)
    ess_high: float = setting(
        "Above this effective sample size fraction, k-hat is noise and not used.",
        0.9,
        above=0,
        maximum=1,
    )
    ess_trustworthy: float = setting(
        "Smallest effective sample size fraction of a trustworthy posterior.",
        0.5,
        above=0,
        maximum=1,
    )
    ess_usable: float = setting(
        "Smallest effective sample size fraction that importance weights can correct.",
        0.05,
        above=0,
        maximum=1,
    )
    weights_dimension: int = setting(
        "Above this many parameters, collapsed weights do not count.", 100, minimum=1
    )
    zero_weight_usable: float = setting(
        "Largest share of draws without finite posterior density in a usable posterior.",
        0.01,
        minimum=0,
    )
    score_error_trustworthy: float = setting(
        "Largest score error per parameter of a trustworthy posterior.", 0.3, above=0
    )
    score_error_usable: float = setting(
        "Largest score error per parameter of a usable posterior.", 1.5, above=0
    )
    predictive_trustworthy: float = setting(
        "Predictive chi-squares this close to 1 do not count against a posterior, even if"
        " significant.",
        0.05,
        minimum=0,
    )
    predictive_usable: float = setting(
        "Largest distance of a significant predictive chi-square from 1 in a usable posterior.",
        0.25,
        above=0,
    )
    missed_mass_trustworthy: float = setting(
        "Largest posterior mass outside the flow's draws (two standard errors allowed).",
        0.02,
        above=0,
    )
    missed_mass_usable: float = setting("The same for a usable posterior.", 0.1, above=0)
    mean_error_trustworthy: float = setting(
        "Largest mean error against a reference, in posterior standard deviations.", 0.15, above=0
    )
    mean_error_usable: float = setting("The same for a usable posterior.", 0.5, above=0)
    std_error_trustworthy: float = setting(
        "Largest relative error of the standard deviation against a reference.", 0.15, above=0
    )
    std_error_usable: float = setting("The same for a usable posterior.", 0.4, above=0)
    classifier_trustworthy: float = setting(
        "Largest accuracy of a classifier between draws and reference (0.5: it cannot tell them"
        " apart) at which the score error does not count.",
        0.6,
        minimum=0.5,
        maximum=1,
    )
    coverage_trustworthy: float = setting(
        "Largest distance of the 90 % coverage from 0.9.", 0.05, above=0
    )
    coverage_usable: float = setting("The same for a usable posterior.", 0.2, above=0)


@dataclass(frozen=True)
class EvaluateSettings:
    """Accuracy, cost and verdict of each posterior."""

    verdict: VerdictSettings = setting("The rules of the verdict.", factory=VerdictSettings)
