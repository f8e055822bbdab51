"""The seismic problem: shallow images to learn from, deep ones to see; real images by path; priors
in place of its own.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pflow.diagnostics.images import mean_absolute_dip
from pflow.errors import PflowError
from pflow.problems import build_problem
from pflow.problems.prior_override import PriorOverride
from pflow.problems.stationary import StationaryGaussian, StationaryPosterior, estimate_spectrum


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_pairs_are_shallow_and_true_models_deep():
    problem = build_problem("seismic", height=32, width=32)
    shallow, deep = (
        mean_absolute_dip(sample(200, generator())[:, 0].numpy())
        for sample in (problem.sample_prior, problem.sample_truth)
    )
    assert shallow == pytest.approx(6, abs=1.5) and deep == pytest.approx(12, abs=2)
    assert problem.low_fidelity is problem.high_fidelity


def test_data_are_back_projected_measurements_with_noise():
    problem = build_problem("seismic", height=16, width=24, noise_std=0.1)
    x, y = problem.simulate(200, generator())
    assert x.shape == y.shape == (200, 1, 16, 24)
    assert (y - problem.high_fidelity(x)).std() == pytest.approx(0.1, rel=0.02)
    assert problem.summary(y) is y


def test_raw_measurements_are_seen_by_flows_as_an_image():
    raw, image = (
        build_problem("seismic", height=16, width=16, measurements=flag) for flag in (True, False)
    )
    x = raw.sample_prior(3, generator())
    assert raw.data_shape == (128,) and raw.summary_shape == (1, 16, 16)
    torch.testing.assert_close(
        raw.summary(raw.high_fidelity(x)), image.high_fidelity(x), atol=1e-5, rtol=1e-5
    )


def test_without_a_prior_it_says_which_there_are():
    problem = build_problem("seismic", height=16, width=16)
    with pytest.raises(PflowError, match="lowfi_posterior"):
        problem.log_prior(torch.zeros(1, 1, 16, 16))


def test_a_gaussian_prior_has_an_exact_posterior_and_another_prior_has_none():
    problem = build_problem("seismic", height=16, width=16)
    x, y = problem.simulate(400, generator())
    prior = StationaryGaussian(estimate_spectrum(x))
    posed = PriorOverride(problem, prior)
    assert posed.exact_posterior(y[:1]).log_evidence == pytest.approx(
        StationaryPosterior(prior, problem.high_fidelity, 0.2, y[0]).log_evidence
    )
    torch.testing.assert_close(posed.log_prior(x[:5]), prior.log_density(x[:5]))
    torch.testing.assert_close(
        posed.log_likelihood(y[:1], x[:5]), problem.log_likelihood(y[:1], x[:5])
    )
    assert posed.sample_prior(2, generator()).shape == (2, 1, 16, 16)

    class Other:
        sample, log_density = prior.sample, prior.log_density

    assert PriorOverride(problem, Other()).exact_posterior(y[:1]) is None


def test_a_file_takes_the_place_of_the_generator(tmp_path):
    values = np.random.default_rng(0).standard_normal((20, 64, 40)).astype("f4")
    np.save(tmp_path / "sections.npy", values)
    rows = {"training_rows": [0, 32], "target_rows": [32, 64]}
    problem = build_problem(
        "seismic", height=16, width=16, images=str(tmp_path / "sections.npy"), stride=8, **rows
    )
    patches = {
        split: problem.for_split(split).sample_prior(12, generator())
        for split in ("train", "validation", "test")
    }
    assert all(found.shape == (12, 1, 16, 16) for found in patches.values())
    assert not torch.equal(patches["train"], patches["validation"])
    deep = problem.sample_truth(1, generator())[0, 0].numpy()
    cuts = [
        values[s, r : r + 16, c : c + 16]
        for s in (18, 19)
        for r in (32, 40, 48)
        for c in (0, 8, 16, 24)
    ]
    assert min(np.abs((cut - cut.mean()) / cut.std() - deep).max() for cut in cuts) < 1e-5
    with pytest.raises(PflowError, match="target_rows"):
        build_problem(
            "seismic",
            height=16,
            width=16,
            images=str(tmp_path / "sections.npy"),
            training_rows=[0, 32],
        )
