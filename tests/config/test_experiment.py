"""The configuration: what is right passes unchanged, what is wrong is named with its key, the rule
and the way out.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
import yaml
from snakemake.utils import update_config

from pflow.config.decoding import decode, encode
from pflow.config.jobs import FinetuneJobSettings, ReportJobSettings, with_workers
from pflow.config.loading import load_configuration
from pflow.config.reference_page import page
from pflow.config.schema import schema
from pflow.errors import PflowError
from pflow.pipeline.resources import JobResources
from pflow.pipeline.stages import STAGES, settings_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shipped() -> dict:
    return yaml.safe_load((ROOT / "config.yaml").read_text())


def changed(configuration: dict, key: str, value: object) -> dict:
    """A copy with one (possibly new) key set; the value `...` deletes it."""
    configuration = copy.deepcopy(configuration)
    *path, last = key.split(".")
    place = configuration
    for part in path:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return configuration


def test_shipped_configuration_is_valid_and_follows_the_schema(shipped):
    load_configuration(shipped)
    jsonschema.validate(shipped, schema())


@pytest.mark.parametrize(
    "names",
    [(file.name,) for file in sorted((ROOT / "config").glob("*.yaml")) if "short" not in file.name]
    + [("seismic_256.yaml", "seismic_256_short.yaml")],
    ids="+".join,
)
def test_every_configuration_file_is_valid(shipped, names):
    """On top of `config.yaml`; the data that a user is to bring may be missing, nothing else."""
    for name in names:
        update_config(shipped, yaml.safe_load((ROOT / "config" / name).read_text()))
    try:
        load_configuration(shipped)
    except PflowError as error:
        mistakes = str(error).splitlines()
        assert all(" is not there: " in mistake for mistake in mistakes), mistakes


def test_schema_file_is_the_generated_one_and_describes_every_key():
    written = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert written == schema(), (
        "run: python -m pflow.config.schema > workflow/schemas/config.schema.json"
    )

    def properties(node):
        if isinstance(node, dict):
            yield from (node.get("properties") or {}).items()
            for value in node.values():
                yield from properties(value)
        elif isinstance(node, list):
            for value in node:
                yield from properties(value)

    undescribed = [
        name
        for name, value in properties(written)
        if isinstance(value, dict) and not value.get("description")
    ]
    assert not undescribed


def test_the_page_on_the_configuration_is_the_generated_one():
    assert (ROOT / "docs/configuration.md").read_text() == page(), (
        "run: python -m pflow.config.schema --markdown > docs/configuration.md"
    )


WRONG = {
    "negative noise": (
        "experiments.rosenbrock.problem.noise_std",
        -0.4,
        ["`noise_std` (=-0.4) must be positive", "set experiments.rosenbrock.problem.noise_std"],
    ),
    "misspelt key": (
        "experiments.rosenbrock.problem.noise_sdt",
        0.4,
        ["experiments.rosenbrock.problem.noise_sdt", "did you mean `noise_std`"],
    ),
    "unknown problem": (
        "experiments.rosenbrock.problem",
        {"name": "rosenbrok"},
        ["problem.name", "'rosenbrok'", "did you mean `rosenbrock`"],
    ),
    "zero depth": (
        "experiments.rosenbrock.flows.coupling.depth",
        0,
        ["`depth` (=0) must be at least 1", "flows.coupling.depth"],
    ),
    "wrong type": (
        "experiments.rosenbrock.simulate.train",
        "many",
        ["simulate.train", "'many'", "whole number"],
    ),
    "boolean for a number": (
        "experiments.rosenbrock.problem.noise_std",
        True,
        ["noise_std", "must be a finite number"],
    ),
    "not a number": (
        "experiments.rosenbrock.problem.noise_std",
        float("nan"),
        ["noise_std", "must be a finite number"],
    ),
    "logarithm of an image": (
        "experiments.seismic.flows.coupling.data_transform",
        "log",
        ["`experiments.seismic.flows.coupling.data_transform` (=log) is for models", "leave it"],
    ),
    "missing flow": (
        "experiments.rosenbrock.finetune.preconditioned.flow",
        "coupled",
        ["finetune.preconditioned.flow", "'coupled'", "chint, coupling"],
    ),
    "unknown start": (
        "experiments.rosenbrock.finetune.scratch.start",
        "warm",
        ["finetune.scratch.start", "pretrained, random"],
    ),
    "missing budget": (
        "experiments.rosenbrock.finetune.scratch.evaluations",
        ...,
        ["finetune.scratch.evaluations", "is missing"],
    ),
    "budget below a batch": (
        "experiments.rosenbrock.finetune.scratch.evaluations",
        10,
        ["evaluations` (=10)", "batch` (=64)"],
    ),
    "repeated seeds": ("experiments.rosenbrock.seeds", [0, 0], ["seeds` (=[0, 0])"]),
    "no observations": (
        "experiments.rosenbrock.observations",
        {},
        ["observations` must have at least one entry"],
    ),
    "x_true of another size": (
        "experiments.rosenbrock.observations.y1.x_true",
        [1],
        ["observations.y1.x_true", "2 numbers"],
    ),
    "list for a mapping": ("experiments", [], ["`experiments`", "must be a mapping"]),
    "a folder's name": ("experiments", {"../up": {}}, ["'../up'", "letters, digits"]),
    "a stage's name": ("experiments.simulate", None, ["experiments.simulate"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_named_with_key_rule_and_value(shipped, case):
    key, value, expected = WRONG[case]
    if case == "a stage's name":
        value = shipped["experiments"]["rosenbrock"]
    with pytest.raises(PflowError) as error:
        load_configuration(changed(shipped, key, value), reserved=STAGES)
    for text in expected:
        assert text in str(error.value)


def test_all_mistakes_are_reported_at_once(shipped):
    wrong = changed(
        changed(shipped, "experiments.rosenbrock.problem.noise_std", 0),
        "experiments.rosenbrock.seeds",
        "three",
    )
    with pytest.raises(PflowError) as error:
        load_configuration(wrong)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize("empty", [None, {}, [], "text"])
def test_an_empty_configuration_says_what_it_needs(empty):
    with pytest.raises(PflowError, match="experiments"):
        load_configuration(empty)


def test_numbers_written_as_people_write_them(shipped):
    assert yaml.safe_load("1e-3") == "1e-3"  # the trap
    configuration = load_configuration(
        changed(shipped, "experiments.rosenbrock.flows.coupling.pretrain.learning_rate", "1e-3")
    )
    assert configuration.experiments["rosenbrock"].flows["coupling"].pretrain.learning_rate == 1e-3
    configuration = load_configuration(
        changed(shipped, "experiments.rosenbrock.simulate.train", "5e3")
    )
    assert configuration.experiments["rosenbrock"].simulate.train == 5000


def test_settings_of_a_job_survive_their_journey_on_the_command_line(shipped):
    configuration = load_configuration(shipped)
    text = settings_for(
        configuration, "finetune", "rosenbrock", observation="y1", method="seed_paper", seed="2"
    )
    settings = decode(FinetuneJobSettings, json.loads(text), "")
    assert settings.seed == 2
    assert settings.method.gradient == "total"
    assert json.dumps(encode(settings), sort_keys=True) == text
    assert (
        decode(ReportJobSettings, json.loads(settings_for(configuration, "report")), "").experiments
        == configuration.experiments
    )


def test_a_job_sees_only_its_part_of_the_configuration(shipped):
    def texts(raw):
        c = load_configuration(raw)
        run = {"observation": "y1", "method": "preconditioned", "seed": "0"}
        return {
            "simulate": settings_for(c, "simulate", "rosenbrock", split="train", shard="0"),
            "pretrain": settings_for(c, "pretrain", "rosenbrock", flow="coupling"),
            "finetune": settings_for(c, "finetune", "rosenbrock", **run),
            "sample": settings_for(c, "sample", "rosenbrock", **run),
        }

    before = texts(shipped)
    for key, value, stages in (
        ("experiments.rosenbrock.simulate.train", 6000, {"simulate"}),
        ("experiments.rosenbrock.flows.coupling.pretrain.epochs", 3, {"pretrain"}),
        ("experiments.rosenbrock.flows.coupling.depth", 4, {"pretrain", "finetune"}),
        ("experiments.rosenbrock.finetune.preconditioned.evaluations", 640, {"finetune"}),
        ("experiments.rosenbrock.finetune.scratch.evaluations", 640, set()),
        ("experiments.rosenbrock.finetune.preconditioned.label", "other", set()),
        ("experiments.rosenbrock.sample.draws", 500, {"sample"}),
        ("experiments.rosenbrock.title", "other", set()),
    ):
        after = texts(changed(shipped, key, value))
        assert {stage for stage in before if before[stage] != after[stage]} == stages, key


def test_the_processes_of_an_operator_invalidate_nothing_and_reach_the_job(shipped):
    alone, shared = (
        load_configuration(changed(shipped, "experiments.traveltime.problem.workers", count))
        for count in (1, 8)
    )
    run = {"observation": "y1", "method": "preconditioned", "seed": "0"}
    jobs = {
        "check_operator": {},
        "reference": {"observation": "y1"},
        "simulate": {"split": "train", "shard": "0"},
        "finetune": run,
        "sample": run,
        "evaluate": run,
        "figures": {},
    }
    for stage, names in jobs.items():
        assert settings_for(alone, stage, "traveltime", **names) == settings_for(
            shared, stage, "traveltime", **names
        ), stage
    assert settings_for(alone, "report") == settings_for(shared, "report")
    assert JobResources(shared).workers(SimpleNamespace(experiment="traveltime")) == 8
    assert JobResources(shared).workers(SimpleNamespace(experiment="rosenbrock")) == 1
    settings = decode(
        FinetuneJobSettings, json.loads(settings_for(shared, "finetune", "traveltime", **run)), ""
    )
    assert with_workers(settings.problem, 8) == shared.experiments["traveltime"].problem
