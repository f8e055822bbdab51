"""docs/notebook.md runs as it is, every block in order, with smaller flows and fewer pairs than by
default.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from pflow.notebook import amortized, inference
from tests.support.small import small_experiment

PAGE = Path(__file__).parents[2] / "docs" / "notebook.md"


@pytest.mark.slow
def test_every_block_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in (amortized, inference):
        monkeypatch.setattr(module, "default_experiment", small_experiment)
    blocks = re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    assert len(blocks) >= 6
    namespace: dict = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the importance weights have collapsed")
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), namespace)
    assert (tmp_path / "posterior.png").stat().st_size > 5000
    assert namespace["x"].shape == (1000, 2)
    assert (tmp_path / "cooling-flow/card.json").is_file()
    assert namespace["result"].folder.as_posix().startswith("elsewhere/")
