"""Seismic-like images: the statistics that make them shallow or deep, and the seeds that make them
again.
"""

from __future__ import annotations

import time

import pytest
import torch

from pflow.diagnostics.images import mean_absolute_dip, trace_correlation
from pflow.errors import PflowError
from pflow.problems.geology import seismic_images


def images(family: str, n: int = 300, size: int = 64, seed: int = 0) -> torch.Tensor:
    return seismic_images(n, size, size, family, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("family", "dip", "correlation"), [("shallow", 6, 0.97), ("deep", 12, 0.92)]
)
def test_dips_and_continuity_are_those_of_the_family(family, dip, correlation):
    drawn = images(family).numpy()
    assert mean_absolute_dip(drawn) == pytest.approx(dip, abs=1.2)
    assert trace_correlation(drawn) == pytest.approx(correlation, abs=0.012)


@pytest.mark.parametrize("shape", [(32, 32), (24, 96), (128, 64)])
def test_any_size_is_finite_and_standardised(shape):
    drawn = seismic_images(6, *shape, "deep", torch.Generator().manual_seed(1))
    assert drawn.shape == (6, *shape)
    assert torch.isfinite(drawn).all()
    torch.testing.assert_close(drawn.mean((1, 2)), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(drawn.std((1, 2), correction=0), torch.ones(6), atol=1e-3, rtol=0)


def test_a_seed_makes_the_same_images_again_and_images_differ():
    torch.testing.assert_close(
        images("deep", 4, 32, seed=5), images("deep", 4, 32, seed=5), rtol=0, atol=0
    )
    drawn = images("deep", 4, 32, seed=5)
    assert (drawn[0] - drawn[1]).abs().mean() > 0.1
    assert not torch.equal(drawn, images("deep", 4, 32, seed=6))


def test_layers_are_flat_where_nothing_has_deformed_them(monkeypatch):
    """The retro-deformation alone makes structure: without it, and without noise, all traces are
    the same.
    """
    import dataclasses

    from pflow.problems import geology

    flat = dataclasses.replace(
        geology.FAMILIES["shallow"],
        deformation=1e-9,
        faults=0,
        unconformity_probability=0.0,
        lateral=0.0,
        signal_to_noise=(80, 80),
    )
    monkeypatch.setitem(geology.FAMILIES, "flat", flat)
    drawn = images("flat", 4, 32)
    assert (drawn - drawn[..., :1]).abs().max() < 0.01


def test_two_hundred_images_take_less_than_a_second_of_processor_time():
    images("deep", 20)
    began = time.process_time()
    images("deep", 200)
    assert time.process_time() - began < 1.0 * max(1, torch.get_num_threads())


def test_mistakes_are_named():
    with pytest.raises(PflowError, match="shallow, deep"):
        images("middle", 1)
    with pytest.raises(PflowError, match="at least 8"):
        images("deep", 1, 4)
