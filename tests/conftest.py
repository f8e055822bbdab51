"""Settings of all tests.

One thread each, because the suite itself runs in parallel. The rooms that pass tensors to each
other are checked while they run: every shape and dtype that a signature declares.
"""

from __future__ import annotations

from jaxtyping import install_import_hook

from tests.support import type_checks  # without pflow; the hook looks it up by name

# Not `objectives` and `training`: their tests pass small stand-ins for flows.
CHECKED = ("data", "diagnostics", "flows", "inference", "operators", "problems")

# Before the first import of pflow: modules that are imported already stay unchecked.
install_import_hook([f"pflow.{room}" for room in CHECKED], f"{type_checks.__name__}.checked")

import torch  # noqa: E402

torch.set_num_threads(1)
