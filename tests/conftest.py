"""Settings of all tests.

One thread each, because the suite itself runs in parallel. The rooms that pass tensors to each
other are checked while they run: every shape and dtype that a signature declares.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

from jaxtyping import install_import_hook

from tests.support import type_checks  # without pflow; the hook looks it up by name

# Not `objectives` and `training`: their tests pass small stand-ins for flows.
CHECKED = ("data", "diagnostics", "flows", "inference", "operators", "problems")

# Before the first import of pflow: modules that are imported already stay unchecked.
install_import_hook([f"pflow.{room}" for room in CHECKED], f"{type_checks.__name__}.checked")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _long_trainings_are_unchecked(request) -> Iterator[None]:
    """The same few calls, thousands of times: the check takes a fifth of a training's time, and
    fast tests check the same functions.
    """
    with type_checks.unchecked() if request.node.get_closest_marker("slow") else nullcontext():
        yield
