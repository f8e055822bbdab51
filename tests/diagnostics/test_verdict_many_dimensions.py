"""In 256 and in 4096 dimensions weights collapse and say nothing: scores and misfit must tell
broken posteriors from sound ones.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from pflow.config.trust import VerdictSettings
from pflow.diagnostics.summary import without_reference
from pflow.diagnostics.verdict import TRUSTWORTHY, Judgement, judge

DRAWS, NOISE, REPEATS = 1000, 0.4, 4


def judged(
    size: int,
    seed: int,
    *,
    spread: float = 1.0,
    shift: float = 0.0,
    true_noise: float = NOISE,
    assumed: float = NOISE,
    fine_tuned: bool = True,
    **known,
) -> Judgement:
    """x ~ N(0, I), REPEATS data y = x + N(0, NOISE^2) of each unknown, and q the posterior under
    the noise `assumed`, `spread` times as wide and `shift` standard deviations off.
    """
    random = np.random.default_rng(seed)
    y = random.standard_normal(size) + true_noise * random.standard_normal((REPEATS, size))
    variance = 1 / (1 + REPEATS / assumed**2)
    mean, std = variance * y.sum(0) / assumed**2, np.sqrt(variance)
    z = random.standard_normal((DRAWS, size))
    x = mean + std * (shift + spread * z)
    log_q = -0.5 * (z**2).sum(1) - size * np.log(spread * std)
    misfit = sum(((one - x) / NOISE) ** 2 for one in y)
    log_p = -0.5 * (x**2).sum(1) - 0.5 * misfit.sum(1)
    score = (y.sum(0) - REPEATS * x) / NOISE**2 - x
    error = ((spread * std * score + z) ** 2).mean(1)[:256]  # in the metric of q
    metrics = (
        without_reference(
            x, log_q, log_p - log_q, misfit.mean(1) / REPEATS, y.size, score_error=error
        )
        | known
    )
    return judge(
        metrics, asdict(VerdictSettings()), unknowns=size, fine_tuned=fine_tuned, linear=True
    )


@pytest.mark.parametrize("size", [256, 4096])
def test_sound_posteriors_pass(size):
    cases = [
        {},
        {},
        {"spread": 1.02},
        {"spread": 0.99, "shift": 0.02},
        {"spread": 1.01, "shift": -0.02},
    ]
    found = [judged(size, seed, **case) for seed, case in enumerate(cases)]
    assert [j.verdict for j in found] == [TRUSTWORTHY] * 5, [j.reasons for j in found]
    collapsed = judged(size, 5, spread=1.05 if size > 1000 else 1.15)
    assert collapsed.verdict == TRUSTWORTHY and any(
        f"k-hat is uninformative in {size} dimensions" in reason for reason in collapsed.reasons
    )


@pytest.mark.parametrize("size", [256, 4096])
@pytest.mark.parametrize(
    ("wrong", "because"),
    [
        ({"spread": 0.5}, "score error"),
        ({"spread": 1.6}, "score error"),
        ({"shift": 1.0}, "score error"),
        ({"assumed": NOISE / 3}, "score error"),
        ({"true_noise": 0.8}, "the draws do not explain the data"),
        (
            {"fine_tuned": False, "ood_p_value": 0.002, "spread": 1.15},
            "does not resemble the training data",
        ),
        ({"fine_tuned": False, "spread": 1.15}, "nothing at this observation has tested it"),
    ],
    ids=str,
)
def test_broken_posteriors_are_flagged(size, wrong, because):
    found = judged(size, 7, **wrong)
    assert found.verdict != TRUSTWORTHY and any(because in reason for reason in found.reasons), (
        found
    )


def test_missed_mass_is_a_remark_only_where_log_q_concentrates():
    few, many = (judged(size, 9, missed_mass=0.6, missed_mass_se=0.01) for size in (2, 256))
    assert few.verdict == "do not use" and any(
        "where the flow has no draws" in reason for reason in few.reasons
    )
    assert many.verdict == TRUSTWORTHY and any(
        "missed mass is uninformative in 256 dimensions" in reason for reason in many.reasons
    )
