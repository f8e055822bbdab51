"""docs/tutorial.md, word by word in an empty folder: files are written, commands are run, and the
verdicts are as promised.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.long]

BLOCK = re.compile(r"^```(bash|python|yaml)\n(.*?)^```$", re.M | re.S)


def follow(page: str, folder: Path) -> dict[str, str]:
    """Write what begins with `# FILE`, run what is bash; what each block printed."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    printed = {}
    for language, text in BLOCK.findall(page):
        if language == "bash":
            done = subprocess.run(
                ["bash", "-euc", text],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=600,
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}"
            printed[text.strip()] = done.stdout
        else:
            name = re.match(r"# (\S+\.(?:py|yaml))\n", text)
            assert name, (
                f"a block of {language} must begin with the name of its file: {text[:60]!r}"
            )
            (folder / name[1]).write_text(text)
    return printed


def test_the_tutorial_does_what_it_says(tmp_path):
    printed = follow((ROOT / "docs/tutorial.md").read_text(), tmp_path)
    verdicts = {
        m: json.loads(
            (tmp_path / f"results/buried/posteriors/y1/{m}/seed-0/metrics.json").read_text()
        )["verdict"]
        for m in ("before", "after")
    }
    assert verdicts == {"before": "do not use", "after": "trustworthy"}
    status = printed["python -m pflow status buried.yaml"]
    assert "y1/after/seed-0" in status and "trustworthy" in status and "do not use" in status
    low, high = map(
        float, re.search(r"between \[(\S+)\s+(\S+)\]", printed["python use.py"]).groups()
    )
    assert low - 0.03 < 0.82 < high + 0.03  # exp(-0.2), the true depth
    plan = next(
        text for command, text in printed.items() if command.startswith("python measure.py")
    )
    assert "finetune_flow" in plan and "pretrain_flow" not in plan and "simulate_shard" not in plan
    assert (tmp_path / "results/report.html").is_file() and not (ROOT / "buried.py").exists()
