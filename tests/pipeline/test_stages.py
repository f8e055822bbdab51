"""What a stage declares is what its code takes and its settings are."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import typing
from pathlib import Path

import pytest
import yaml

from pflow.config.decoding import decode, encode
from pflow.config.loading import load_configuration
from pflow.errors import PflowError
from pflow.pipeline.stages import STAGES, settings_for
from pflow.pipeline.workflow import RULES, Pipeline
from pflow.report.ranking import other_priors
from tests.support.project import ROOT, TINY

WILDCARDS = {
    "split": "train",
    "shard": "1",
    "observation": "y1",
    "method": "preconditioned",
    "flow": "coupling",
    "seed": "0",
}


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_the_code_of_a_stage_takes_what_is_declared(stage):
    function = getattr(importlib.import_module(f"pflow.stages.{stage.name}"), stage.name)
    parameters = inspect.signature(function).parameters
    declared = {argument.parameter for argument in stage.arguments}
    assert set(parameters) == {"settings", "record", "threads"} | declared
    assert typing.get_type_hints(function)["settings"] is stage.settings
    for argument in stage.arguments:
        many = "list" in str(parameters[argument.parameter].annotation)
        optional = "None" in str(parameters[argument.parameter].annotation)
        assert many == (argument.kind == "inputs"), argument
        assert optional == (argument.kind == "optional input"), argument


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_the_settings_of_a_job_are_of_the_declared_class(stage):
    taken = inspect.signature(stage.build).parameters
    wildcards = {name: value for name, value in WILDCARDS.items() if name in taken}
    experiment = "tiny" if "name" in taken else None
    text = settings_for(load_configuration(TINY), stage.name, experiment, **wildcards)
    settings = decode(stage.settings, json.loads(text), "")
    if stage.option == "workers":
        assert hasattr(settings, "problem")


def test_the_figures_know_the_methods_under_another_prior():
    shipped = load_configuration(yaml.safe_load((ROOT / "config.yaml").read_text()))
    others = {
        name: json.loads(settings_for(shipped, "figures", name)).get("other_priors", "absent")
        for name in ("rosenbrock", "seismic")
    }
    assert others == {"rosenbrock": "absent", "seismic": ["gaussian", "seed_paper"]}
    seismic = encode(shipped.experiments["seismic"])
    assert other_priors(seismic["finetune"], seismic["prior"]) == others["seismic"]


def test_every_product_is_a_result_and_the_report_is_the_last_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline = Pipeline(TINY, tmp_path)
    results = {name: pipeline.target(name) for name in STAGES}
    everything = [file for files in results.values() for file in files]
    assert len(set(everything)) == len(everything)
    assert set(pipeline.products("tiny")) == {
        file
        for name, files in results.items()
        if name not in ("simulate", "observe", "spectrum", "report")
        for file in files
    }
    assert results["report"] == [str(Path("results/report.html"))]


def test_no_experiment_has_the_name_of_a_rule():
    """`snakemake write_report` would be ambiguous, and Snakemake stops with a traceback."""
    files = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]
    rules = {rule for file in files for rule in re.findall(r"^rule (\w+):", file.read_text(), re.M)}
    assert rules == set(RULES)
    experiment = TINY["experiments"]["tiny"]
    for name in ("write_report", "all", "finetune"):
        with pytest.raises(PflowError, match=f"`experiments.{name}` has the name of a stage or a"):
            Pipeline({"experiments": {name: experiment}}, Path())
