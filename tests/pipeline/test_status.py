"""`python -m pflow status` says what is done, running, interrupted and missing, without a heavy
library.
"""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path

import pytest
import yaml

from pflow.cli import main
from pflow.execution.origin import input_states, record_origin
from pflow.pipeline.status import status
from tests.support.imported import imported_by

CONFIGURATION = {
    "experiments": {
        "small": {
            "problem": {"name": "rosenbrock"},
            "observations": {"y1": {}},
            "flows": {"coupling": {"name": "coupling"}},
            "finetune": {"amortized": {"flow": "coupling", "objective": "none"}},
            "seeds": [0, 1],
        }
    }
}
RUN = "results/small/posteriors/y1/amortized/seed-"


@pytest.fixture
def project(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIGURATION))
    touch(tmp_path / f"{RUN}0/flow.safetensors")
    touch(
        tmp_path / f"{RUN}0/metrics.json",
        json.dumps({"verdict": "do not use", "kl_reverse_nats": 5.94737, "evaluations": 0}),
    )
    return tmp_path


def touch(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def begin(project: Path, output: str) -> None:
    marker = base64.urlsafe_b64encode(output.encode()).decode()
    touch(project / ".snakemake/incomplete" / f"@{marker[:40]}" / marker[40:])


def lines(text: str) -> dict[str, str]:
    return {
        line.split()[0]: " ".join(line.split()[1:])
        for line in text.splitlines()
        if line.strip() and len(line.split()) > 1
    }


def test_done_and_missing_and_the_newest_metrics(project: Path):
    printed = lines(status(Path()))
    assert (
        printed["finetune"] == "1 done, 1 missing"
        and printed["evaluate"] == "1 done, 1 missing"
        and printed["simulate"] == "3 missing"
    )
    assert printed["report"] == "missing"
    assert printed["y1/amortized/seed-0"].startswith(
        "do not use, kl_reverse_nats 5.947, evaluations 0, "
    )


def test_running_jobs_show_the_last_line_of_their_log(project: Path):
    begin(project, f"{RUN}1/flow.safetensors")
    touch(
        project / "results/small/logs/finetune/y1/amortized/seed-1.log",
        "$ python -m pflow finetune\nfinetune: 40%  step 32\n",
    )
    touch(project / ".snakemake/locks/0.output.lock")
    text = status(Path())
    assert lines(text)["finetune"] == "1 done, 1 running"
    assert lines(text)["y1/amortized/seed-1"] == "running finetune finetune: 40% step 32"
    (project / ".snakemake/locks/0.output.lock").unlink()
    text = status(Path())
    assert (
        lines(text)["finetune"] == "1 done, 1 interrupted" and "`snakemake` continues them" in text
    )


def observations_in_batches(project: Path, count: int) -> str:
    """So many observations of one seed, in batches of three; their place."""
    configuration = copy.deepcopy(CONFIGURATION)
    configuration["experiments"]["small"] |= {
        "observations": {f"y{k}": {} for k in range(count)},
        "seeds": [0],
        "resources": {"observations_per_job": 3},
    }
    (project / "config.yaml").write_text(yaml.safe_dump(configuration))
    return "results/small/posteriors"


def test_a_batch_that_runs_is_at_one_of_its_observations(project: Path):
    place = observations_in_batches(project, 6)
    touch(project / f"{place}/y3/amortized/seed-0/flow.safetensors")
    begin(project, f"{place}/.batches/amortized/seed-0/batch-1.json")
    touch(project / ".snakemake/locks/0.output.lock")
    printed = lines(status(Path()))
    assert printed["finetune"] == "2 done, 4 missing"  # y1 is done too
    assert printed["sample"] == "1 running, 5 missing"
    assert printed["y3/amortized/seed-0"].startswith("running sample")


def test_of_many_runs_the_newest_are_shown(project: Path):
    place = observations_in_batches(project, 60)
    for k in range(60):
        touch(project / f"{place}/y{k}/amortized/seed-0/metrics.json", "{}")
    text = status(Path())
    assert text.count("no verdict") == 20 and "... and 40 more that are done" in text


@pytest.mark.parametrize("content", ["{", "[]", "7", ""])
def test_damaged_metrics_do_not_stop_it(project: Path, content: str):
    touch(project / f"{RUN}1/metrics.json", content)
    assert "damaged" in lines(status(Path()))["y1/amortized/seed-1"]


def test_the_command_and_its_one_error(project: Path, capsys):
    assert main(["status"]) == 0
    assert "do not use" in capsys.readouterr().out
    (project / "config.yaml").unlink()
    assert main(["status"]) == 1
    assert "config.yaml cannot be read" in capsys.readouterr().err


def test_it_is_light(project: Path):
    names = imported_by("import pflow.cli\npflow.cli.main(['status'])", project)
    assert "pflow.pipeline.status" in names
    assert not names & {"torch", "matplotlib", "xarray", "numpy", "zarr"}


def test_an_old_report_is_called_old(project: Path):
    report, metrics = project / "results/report.html", project / f"{RUN}0/metrics.json"
    touch(report)
    assert lines(status(Path()))["report"].startswith("old: 2 of 2 runs")
    touch(project / f"{RUN}1/metrics.json", "{}")
    shown = [metrics, project / f"{RUN}1/metrics.json"]
    record_origin("report", "{}", "", input_states(report, shown, []), [report])
    assert lines(status(Path()))["report"].startswith("done, ")
    touch(metrics, "{}")
    assert lines(status(Path()))["report"].startswith("old: 1 of 2 runs")
    touch(project / "results/partial_report.html")
    assert lines(status(Path()))["report"].startswith("old: a run has failed since")
