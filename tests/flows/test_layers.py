"""What the contract cannot see from outside: the layers one by one, and on images."""

from __future__ import annotations

import torch

from pflow.flows.layers import ActNorm, Householder, Permutation, channelwise

DOUBLE = torch.float64


def test_householder_is_the_product_of_its_reflections() -> None:
    torch.manual_seed(0)
    layer = Householder(depth=3, channels=5, reflections=4).double()
    identity = torch.eye(5, dtype=DOUBLE)
    for vectors, matrix in zip(layer.vectors.detach(), layer.matrices().detach(), strict=True):
        product = identity
        for v in vectors:
            product = product @ (identity - 2 * torch.outer(v, v) / (v @ v))
        torch.testing.assert_close(matrix, product)
        torch.testing.assert_close(matrix @ matrix.T, identity)


def test_mixing_acts_on_the_channels_of_images() -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 6, 3, 4, dtype=DOUBLE)
    for layer in (Householder(2, 6, 6).double(), Permutation(2, 6, seed=1)):
        there, back = layer()[0], layer(inverse=True)[0]
        mixed = there(image)
        torch.testing.assert_close(back(mixed), image)
        torch.testing.assert_close(mixed[:, :, 1, 2], there(image[:, :, 1, 2]))
        assert not torch.equal(mixed, image)


def test_actnorm_normalises_each_channel_of_images() -> None:
    torch.manual_seed(0)
    image = 3 * torch.randn(20, 4, 3, 5, dtype=DOUBLE) + torch.arange(4.0).view(4, 1, 1)
    image[:, 3] = 7.0  # a constant channel is only shifted
    layer = ActNorm(depth=2, channels=4).double()
    layer.initialise(1, image)
    scale, shift = layer.log_scale[1].exp(), layer.shift[1]
    normal = (
        (image * channelwise(scale, image) + channelwise(shift, image)).transpose(0, 1).flatten(1)
    )
    torch.testing.assert_close(normal.mean(1), torch.zeros(4, dtype=DOUBLE), rtol=0, atol=1e-12)
    torch.testing.assert_close(normal.std(1), torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=DOUBLE))
    assert not layer.shift[0].any()


def test_permutations_come_from_their_seed() -> None:
    orders = [Permutation(4, 6, seed).order for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])
    assert [step is None for step in Permutation(4, 6, 0)()] == [False, True, False, True]
    assert Permutation(4, 2, 0)() == [None] * 4
