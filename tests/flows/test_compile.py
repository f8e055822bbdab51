"""`compile: true`: the same density and the same gradients, from one compiled program."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch

from pflow.flows import build_flow
from tests.support.type_checks import unchecked

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"),
]


@pytest.mark.long
@pytest.mark.filterwarnings("default")  # of the compiler's own making
@unchecked()  # the compiler cannot follow the check of shapes
def test_a_compiled_flow_is_the_same_flow() -> None:
    torch.manual_seed(0)
    compiled = build_flow("coupling", (2,), (2,), depth=1, hidden=4, layers=1, compile=True)
    with torch.no_grad():
        for parameter in compiled.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    plain = build_flow("coupling", (2,), (2,), depth=1, hidden=4, layers=1)
    plain.load_state_dict(compiled.state_dict())
    x, y = torch.randn(16, 2), torch.randn(16, 2)
    for flow in (plain, compiled):
        flow.log_prob(x, y).sum().backward()
    torch.testing.assert_close(compiled.log_prob(x, y), plain.log_prob(x, y))
    for mine, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    torch.testing.assert_close(copy.deepcopy(compiled).log_prob(x, y), plain.log_prob(x, y))
