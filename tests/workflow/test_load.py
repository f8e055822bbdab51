"""`pflow.load` reads what the pipeline made."""

from __future__ import annotations

import json

import pytest

import pflow
from pflow.errors import PflowError


def test_a_run_of_the_pipeline_is_a_result(finished):
    experiment = finished.folder / "results/tiny"
    run = experiment / "posteriors/y1/preconditioned/seed-0"
    metrics = json.loads((run / "metrics.json").read_text())
    for result in (pflow.load(run), pflow.load(experiment, method="preconditioned")):
        assert result.folder == run and result.metrics == metrics
        assert result.verdict == metrics["verdict"]
        assert list(result.verdict.reasons) == metrics["verdict_reasons"]
        assert result.draws["x"].shape == (1, 200, 2)
    with pytest.raises(PflowError, match=r"holds 3 posteriors.*posteriors/y1/amortized/seed-0"):
        pflow.load(experiment)
    with pytest.raises(PflowError, match=r"raise experiments\.tiny\.finetune\.preconditioned"):
        pflow.load(run).more(8)
