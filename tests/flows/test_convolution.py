"""The convolution of image flows against torch's, with its first and second derivatives."""

import pytest
import torch
from torch.nn import functional as F

from pflow.flows.convolution import convolve

SHAPES = {
    "1x1": (5, 7, 1),
    "few outputs": (3, 8, 3),
    "few outputs, wide kernel": (4, 6, 5),
    "one output": (1, 5, 3),
    "few inputs": (8, 2, 3),
    "many of both": (8, 8, 3),
}


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("outputs", "inputs", "kernel"), SHAPES.values(), ids=SHAPES)
def test_the_result_is_that_of_conv2d(outputs, inputs, kernel, with_bias):
    generator = torch.Generator().manual_seed(0)
    image, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((3, inputs, 6, 9), (outputs, inputs, kernel, kernel), (outputs,))
    )
    inputs_of_both = (image, weight, bias) if with_bias else (image, weight)
    result, expected = convolve(*inputs_of_both), F.conv2d(*inputs_of_both, padding=kernel // 2)
    torch.testing.assert_close(result, expected)
    upstream = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    gradients, expected_gradients = (
        torch.autograd.grad(value, inputs_of_both, upstream) for value in (result, expected)
    )
    torch.testing.assert_close(gradients, expected_gradients)


@pytest.mark.parametrize(("outputs", "inputs", "kernel"), [(3, 5, 1), (2, 5, 3)])
def test_it_can_be_differentiated_twice(outputs, inputs, kernel):
    generator = torch.Generator().manual_seed(1)
    image, weight = (
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((2, inputs, 3, 4), (outputs, inputs, kernel, kernel))
    )
    assert torch.autograd.gradgradcheck(lambda x, w: convolve(x, w).tanh(), (image, weight))


def test_in_mixed_precision_it_is_torchs_own():
    image, weight = torch.randn(2, 8, 6, 6), torch.randn(3, 8, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = convolve(image, weight)
        assert result.dtype == torch.bfloat16
        assert torch.equal(result, F.conv2d(image, weight, padding=1))
