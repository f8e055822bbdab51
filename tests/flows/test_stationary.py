"""The Gaussian of images without matrices of all pixels, and the map of its latent."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.distributions import MultivariateNormal

from pflow.flows import build_flow
from pflow.flows.principal import PrincipalAffine

SHAPE = (1, 4, 6)
SIZE, RANK = 24, 3
Y = torch.zeros(1, 2, dtype=torch.float64)


def directions():
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(SIZE, RANK, generator=generator).double()).Q


MEAN = torch.linspace(-1, 1, SIZE).double()
VARIANCES = torch.tensor([0.01, 0.5, 4.0]).double()


def principal():
    latent = PrincipalAffine(SIZE).double()
    latent.set_covariance(MEAN, directions(), VARIANCES)
    return latent


def covariance():
    spread = directions() * (VARIANCES - 1)
    return torch.eye(SIZE).double() + spread @ directions().T


def stationary():
    flow = build_flow("stationary", SHAPE, (2,)).double()
    rows, columns = torch.meshgrid(torch.fft.fftfreq(4), torch.fft.fftfreq(6), indexing="ij")
    spectrum = 0.1 + torch.exp(-9 * (rows**2 + columns**2))[None].double()
    flow.set_prior(spectrum)
    flow.principal.set_covariance(MEAN, directions(), VARIANCES)
    units = torch.eye(SIZE).double().view(-1, *SHAPE)
    root = torch.fft.ifft2(spectrum.sqrt() * torch.fft.fft2(units)).real.flatten(1)
    return flow, root


@torch.no_grad()
def test_the_map_has_the_covariance_that_was_set():
    latent = principal()
    matrix = latent.pull(torch.eye(SIZE).double())
    torch.testing.assert_close(matrix @ matrix.T, covariance())
    latent.stretch(1.5)
    w = torch.randn(5, SIZE, generator=torch.Generator().manual_seed(1)).double()
    z, log_determinant = latent(w)
    torch.testing.assert_close(z, MEAN + 1.5 * w @ matrix)
    torch.testing.assert_close(latent.undo(z)[0], w)
    expected = 0.5 * torch.logdet(1.5**2 * covariance())
    torch.testing.assert_close(log_determinant, expected)
    torch.testing.assert_close(latent.undo(z)[1], expected)


def test_directions_like_the_others_are_left_out():
    latent = PrincipalAffine(SIZE).double()
    latent.set_covariance(MEAN, directions(), torch.tensor([1.0, 2.0, 1 + 1e-9]).double())
    assert latent.directions.shape == (SIZE, 1)


def test_weights_bring_their_own_number_of_directions():
    other = PrincipalAffine(SIZE).double()
    other.load_state_dict(principal().state_dict())
    w = torch.randn(2, SIZE).double()
    assert torch.equal(other(w)[0], principal()(w)[0])
    copied = copy.deepcopy(other)
    other.set_covariance(MEAN, directions()[:, :1], VARIANCES[:1])
    assert copied.directions.shape == (SIZE, RANK)


@torch.no_grad()
def test_density_and_draws_are_those_of_the_gaussian():
    flow, root = stationary()
    exact = MultivariateNormal(root @ MEAN, root @ covariance() @ root)
    x, log_q = flow.sample_with_log_prob(Y, 40_000, torch.Generator().manual_seed(2))
    torch.testing.assert_close(log_q, exact.log_prob(x.flatten(1)))
    torch.testing.assert_close(flow.log_prob(x, Y), log_q)
    seen = torch.cov(x.flatten(1).T)
    assert float((seen - exact.covariance_matrix).abs().max()) < 0.05


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_log_determinant_is_that_of_the_jacobian(direction):
    flow, _ = stationary()
    x = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(3)).double()
    transform = getattr(flow, direction)
    matrix = jacobian(lambda row: transform(row[None], Y)[0][0], x[0]).reshape(SIZE, SIZE)
    torch.testing.assert_close(transform(x, Y)[1][0], torch.linalg.slogdet(matrix)[1])
    again = flow.inverse(flow(x, Y)[0], Y)[0]
    torch.testing.assert_close(again, x)
