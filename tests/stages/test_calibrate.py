"""Ranks of a flow over pairs: uniform for the exact conditional, known shapes for wrong ones, and
what sbi says of the same.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pflow.diagnostics.calibration import ranks, tarp_distances, uniformity
from pflow.stages.calibrate import pair_ranks
from tests.support.affine_flow import AffineFlow

DRAWS = 60


def pairs(n=400, size=3, seed=0):
    """x ~ N(0, I), y = x + N(0, I): the posterior is N(y / 2, I / 2)."""
    generator = torch.Generator().manual_seed(seed)
    x, noise = (torch.randn(n, size, generator=generator, dtype=torch.float64) for _ in range(2))
    return x, x + noise


def p_values(std=0.5**0.5, centre=0.0, seed=0):
    rank, names = pair_ranks(
        AffineFlow(3, 0.5, std, centre), *pairs(seed=seed), DRAWS, 16, seed, ("a", "b", "c")
    )
    assert names == ["a", "b", "c", "log_q", "tarp"] and rank.shape == (400, 5)
    return {name: uniformity(rank[:, i], DRAWS).p_value for i, name in enumerate(names)}


def test_the_exact_conditional_is_calibrated_in_every_quantity():
    found = np.array([list(p_values(seed=seed).values()) for seed in range(20)])
    assert (found < 0.05).mean() < 0.12 and found.min() > 1e-4


@pytest.mark.parametrize(
    ("wrong", "quantity"),
    [({"std": 0.5}, "log_q"), ({"std": 1.0}, "tarp"), ({"std": 0.5}, "a"), ({"centre": 0.2}, "b")],
)
def test_each_miscalibration_is_found(wrong, quantity):
    assert p_values(**wrong)[quantity] < 0.01


def test_large_models_are_tested_in_few_unknowns():
    x, y = pairs(60, 40)
    rank, names = pair_ranks(
        AffineFlow(40, 0.5, 0.5**0.5), x, y, 30, 5, 0, tuple(f"x{i}" for i in range(40))
    )
    assert names == ["x0", "x10", "x20", "x29", "x39", "log_q", "tarp"] and rank.max() <= 30


@pytest.mark.slow
@pytest.mark.parametrize("std", [0.5**0.5, 0.5])
def test_sbi_agrees(std):
    """The same ranks, the same expected coverage: with the sbi package's run_sbc and TARP on the
    same draws.
    """
    pytest.importorskip("sbi", reason="cross-check: pip install sbi", exc_type=ImportError)
    from sbi.diagnostics.sbc import check_sbc
    from sbi.diagnostics.tarp import _run_tarp

    x, y = pairs(300, 2)
    generator = torch.Generator().manual_seed(1)
    draws = y[:, None] / 2 + std * torch.randn(
        300, 200, 2, generator=generator, dtype=torch.float64
    )
    rank = ranks(draws.numpy(), x.numpy(), np.random.default_rng(0))
    theirs = torch.stack([(draws[:, :, i] < x[:, i : i + 1]).sum(1) for i in range(2)], 1)
    np.testing.assert_array_equal(rank, theirs)
    verdict = check_sbc(theirs.float(), x.float(), x.roll(1, 0).float(), num_posterior_samples=200)[
        "ks_pvals"
    ]
    ours = [uniformity(rank[:, i], 200).p_value for i in range(2)]
    assert all((p < 0.05) == (float(q) < 0.05) for p, q in zip(ours, verdict, strict=True))
    references = x.roll(1, 0)
    coverage, levels = _run_tarp(
        draws.transpose(0, 1), x, references, num_bins=50, z_score_theta=False
    )
    place = (
        ranks(
            *tarp_distances(draws.numpy(), x.numpy(), references.numpy()), np.random.default_rng(0)
        )
        / 200
    )
    expected = [(place < float(level)).mean() for level in levels]
    np.testing.assert_allclose(
        coverage.numpy()[1:-1], expected[1:-1], atol=0.03
    )  # the ends are 0 and 1 by definition there
