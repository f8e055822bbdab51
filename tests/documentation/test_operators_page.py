"""docs/operators.md runs as it is: every block of code, in order, in an empty folder."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from pflow.flows import build_flow
from pflow.storage.weights import write_weights

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"
OPTIONAL = ("pylops", "deepwave")
LEARNT = {
    "name": "unconditional",
    "model_shape": [16],
    "data_shape": [9],
    "base": {"name": "coupling", "model_shape": [16], "data_shape": [1], "depth": 2, "hidden": 16},
}


def test_every_block_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    blocks = re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    assert len(blocks) > 10
    skipped, namespace = [], {}
    for block in blocks:
        absent = [
            name for name in OPTIONAL if f"import {name}" in block and find_spec(name) is None
        ]
        if absent:
            skipped += absent
        else:
            exec(compile(block, str(PAGE), "exec"), namespace)
    saved = build_flow(**LEARNT)
    write_weights("prior.safetensors", saved.state_dict(), {"architecture": json.dumps(LEARNT)})
    prior = namespace["flow_prior"]("prior.safetensors")
    x = prior.sample(5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(prior.log_density(x), saved.log_prob(x, torch.ones(1, 9)))
    if skipped:
        pytest.skip(f"all ran but those of {', '.join(skipped)}, not installed")
