"""Another workflow uses pflow as a module: its rules make measured data and read the results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support.project import ROOT, Project

RUN = "results/tiny/posteriors/measured/preconditioned/seed-0"
SNAKEFILE = f"""
configfile: "settings.yaml"


rule summarise:
    input:
        metrics="{RUN}/metrics.json",
        posterior="{RUN}/posterior.zarr/zarr.json",
    output:
        "summary.json",
    params:
        note=config["note"],
    shell:
        "cp {{input.metrics}} {{output}}"


module pflow:
    snakefile:
        "{ROOT}/workflow/Snakefile"
    config:
        config["pflow"]


use rule * from pflow as pflow_*


rule measure:
    output:
        "data/measured.txt",
    params:
        values=config["measured"],
    shell:
        "echo {{params.values}} > {{output}}"


rule convert:
    input:
        "data/measured.txt",
    output:
        "data/measured.npy",
    shell:
        "python -c 'import numpy as np; np.save(\\"{{output}}\\", np.loadtxt(\\"{{input}}\\"))'"


onstart:
    pflow.onstart()


onsuccess:
    pflow.onsuccess()


onerror:
    pflow.onerror()
"""


@pytest.fixture
def analysis(tmp_path, tiny) -> Project:
    """Another workflow in its own folder, with a part of its configuration for pflow."""
    e = tiny["experiments"]["tiny"]
    del e["flows"]["chint"], e["finetune"]["seed_paper_scratch"]
    e["simulate"] |= {"shard_size": 300, "high_fidelity": 0}
    e["observations"] = {"measured": {"file": "data/measured.npy"}}
    e["reference"] = {"kind": "none"}
    project = Project.at(tmp_path)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    configure(project, pflow=tiny, measured="1.0 0.5", note="first")
    return project


def configure(project: Project, **changes: object) -> None:
    file = project.folder / "settings.yaml"
    settings = yaml.safe_load(file.read_text()) if file.exists() else {}
    file.write_text(yaml.safe_dump(settings | changes))


def planned(project: Project, *arguments: str) -> set[str]:
    """The rules that a dry run names."""
    done = project.snakemake("-n", *arguments)
    assert done.returncode == 0, done.stdout
    table = done.stdout.partition("\njob ")[2].partition("\ntotal")[0].splitlines()[2:]
    return {line.split()[0] for line in table if line.strip()}


def outside(rules: set[str]) -> set[str]:
    return {name for name in rules if not name.startswith("pflow_")}


@pytest.mark.slow
@pytest.mark.long
def test_rules_before_and_after_an_experiment_run_with_it(analysis):
    assert outside(planned(analysis)) == {"measure", "convert", "summarise"}
    done = analysis.snakemake()
    logs = [file.read_text() for file in analysis.folder.rglob("results/**/*.log")]
    assert done.returncode == 0, "\n".join((done.stdout, *logs))
    metrics = analysis.folder / RUN / "metrics.json"
    assert (analysis.folder / "summary.json").read_bytes() == metrics.read_bytes()
    assert planned(analysis) == set()

    configure(analysis, note="second")
    assert planned(analysis) == {"summarise"}, "parameters of other rules count as ever"
    configure(analysis, note="first", measured="1.1 0.5")
    again = planned(analysis)
    assert {"measure", "pflow_observe_data", "pflow_finetune_flow", "summarise"} <= again
    assert not {"pflow_simulate_shard", "pflow_pretrain_flow"} & again


@pytest.mark.slow
def test_a_failure_is_told_where_the_other_workflow_asks_for_it(analysis):
    configure(analysis, measured="1.0 0.5 0.2")
    done = analysis.snakemake("results/tiny/observations/measured.zarr/zarr.json")
    assert done.returncode != 0
    told = done.stdout.partition("What failed, and why:")[2]
    assert "measured.log: error: data/measured.npy" in told and "Traceback" not in done.stdout


def test_an_experiment_is_a_target_and_a_rule_can_be_changed(analysis):
    with (analysis.folder / "Snakefile").open("a") as file:
        file.write(
            "\n\nuse rule finetune_flow from pflow as pflow_finetune_flow with:\n    threads: 2\n"
        )
    assert {"pflow_finetune_flow", "pflow_draw_figures"} <= planned(analysis, "pflow_tiny")


def test_without_rules_before_it_everything_of_pflow_is_the_default(analysis):
    """As a deployment from the catalogue has it."""
    (analysis.folder / "Snakefile").write_text(
        f'configfile: "{ROOT}/config/config.yaml"\n\n\n'
        f'module pflow:\n    snakefile: "{ROOT}/workflow/Snakefile"\n    config: config\n\n\n'
        "use rule * from pflow\n"
    )
    assert {"pretrain_flow", "write_report", "all"} <= planned(analysis)


def test_the_example_of_the_page_can_be_planned(tmp_path):
    """Of docs/module.md, with the problem of docs/tutorial.md."""
    page, tutorial = ((ROOT / "docs" / name).read_text() for name in ("module.md", "tutorial.md"))
    (tmp_path / "buried.py").write_text(re.search(r"# buried\.py\n.*?(?=```)", tutorial, re.S)[0])
    (tmp_path / "settings.yaml").write_text(re.search(r"```yaml\n(.*?)```", page, re.S)[1])
    snakefile = "\n\n".join(re.findall(r"```python\n(.*?)```", page, re.S))
    assert snakefile.count("/path/to/pflow") == 1
    (tmp_path / "Snakefile").write_text(snakefile.replace("/path/to/pflow", str(ROOT)))
    names = planned(Project.at(tmp_path))
    assert {"measure", "pflow_observe_data", "pflow_finetune_flow", "summarise"} <= names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("module pflow:\n", 'module pflow:\n    prefix: "moved"\n'),
            "`prefix` and `replace_prefix` of a module move the results (=results/) to"
            " moved/results/, where the jobs of pflow do not write them: remove it, and set"
            " `results` in the configuration",
        ),
        (('config["pflow"]', "config"), "`note` is not a setting"),
        (("data/measured.npy", "data/other.npy"), "data/measured.npy"),
    ],
    ids=["prefix", "settings of others", "data that no rule makes"],
)
def test_mistakes_are_told_in_a_plan(analysis, change, message):
    snakefile: Path = analysis.folder / "Snakefile"
    snakefile.write_text(snakefile.read_text().replace(*change))
    done = analysis.snakemake("-n")
    assert done.returncode != 0 and message in done.stdout and "Traceback" not in done.stdout
