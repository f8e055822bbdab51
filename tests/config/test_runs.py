"""`only`, `except` and `seeds`: which runs a configuration plans, and which mistakes stop it."""

from __future__ import annotations

import copy
import json

import pytest

from pflow.config.loading import load_configuration
from pflow.config.runs import run_names
from pflow.errors import PflowError
from pflow.pipeline.files import ExperimentFiles
from pflow.pipeline.inputs import JobInputs
from pflow.pipeline.planned_jobs import planned_jobs
from pflow.pipeline.stages import settings_for
from tests.support.project import TINY

OBSERVATIONS = ("survey-1", "survey-2", "bench")


def configured(finetune: dict | None = None, reference: dict | None = None):
    """Two methods at three observations with two seeds; `finetune` changes some of them."""
    data = copy.deepcopy(TINY)
    tiny = data["experiments"]["tiny"]
    tiny["observations"] = {name: {"seed": k} for k, name in enumerate(OBSERVATIONS)}
    tiny["seeds"] = [0, 1]
    del tiny["finetune"]["seed_paper_scratch"]
    for method, changes in (finetune or {}).items():
        tiny["finetune"].setdefault(method, copy.deepcopy(tiny["finetune"]["preconditioned"]))
        tiny["finetune"][method] |= changes
    tiny["reference"] |= reference or {}
    return load_configuration(data)


def files_of(configuration) -> ExperimentFiles:
    return JobInputs(configuration).files("tiny")


def runs(**finetune) -> set[tuple[str, str, int]]:
    return set(run_names(configured(finetune).experiments["tiny"]))


def of(method: str, observations, seeds=(0, 1)) -> set[tuple[str, str, int]]:
    return {(observation, method, seed) for observation in observations for seed in seeds}


@pytest.mark.parametrize(
    ("selection", "where", "seeds"),
    [
        ({}, OBSERVATIONS, (0, 1)),
        ({"only": ["survey-2"]}, ["survey-2"], (0, 1)),
        ({"only": ["survey-*"]}, ["survey-1", "survey-2"], (0, 1)),
        ({"except": ["survey-*"]}, ["bench"], (0, 1)),
        ({"only": ["survey-*"], "except": ["survey-1"]}, ["survey-2"], (0, 1)),
        ({"seeds": [3]}, OBSERVATIONS, (3,)),
        ({"only": ["bench"], "seeds": [0]}, ["bench"], (0,)),
    ],
)
def test_a_method_runs_where_and_with_which_seeds_it_says(selection, where, seeds):
    planned = runs(preconditioned=selection)
    assert planned == of("preconditioned", where, seeds) | of("amortized", OBSERVATIONS)


def test_jobs_inputs_and_figures_follow():
    configuration = configured(
        {"preconditioned": {"only": ["bench"], "seeds": [5]}}, {"except": ["survey-*"]}
    )
    jobs = [*planned_jobs(JobInputs(configuration))]
    tuned = [job.wildcards for job in jobs if job.stage == "finetune"]
    assert len(tuned) == 7 and {"bench", "preconditioned", "5"} < {*tuned[-1].__dict__.values()}
    assert [j.wildcards.observation for j in jobs if j.stage == "reference"] == ["bench"]
    files = files_of(configuration)
    assert files.reference("bench") and not files.reference("survey-1")
    figures = json.loads(settings_for(configuration, "figures", "tiny"))
    assert figures["runs"] == {
        "survey-1": {"amortized": [0, 1]},
        "survey-2": {"amortized": [0, 1]},
        "bench": {"amortized": [0, 1], "preconditioned": [5]},
    }


def test_replicates_are_fine_tuned_with_the_first_seed_of_the_method():
    configuration = configured({"preconditioned": {"only": ["bench"], "seeds": [5, 6]}})
    experiment = configuration.experiments["tiny"]
    object.__setattr__(experiment.calibrate, "fine_tuned", 2)
    files = files_of(configuration)
    assert [file.split("/")[-2] for file in files.replicate_flows("preconditioned")] == [
        "seed-5"
    ] * 2
    again = [
        job.wildcards.seed
        for job in planned_jobs(JobInputs(configuration))
        if job.stage == "finetune" and job.wildcards.observation.startswith("replicate")
    ]
    assert again == ["5", "5"]


def test_a_selection_changes_no_settings_of_the_jobs_that_stay():
    plain, restricted = (
        configured(*changes)
        for changes in (
            (),
            ({"preconditioned": {"only": ["bench"], "seeds": [0]}}, {"only": ["bench"]}),
        )
    )
    for job in planned_jobs(JobInputs(restricted)):
        wildcards = dict(job.wildcards.items())
        experiment = wildcards.pop("experiment", None)
        if job.stage not in ("figures", "report"):
            texts = [
                settings_for(c, job.stage, experiment, **wildcards) for c in (plain, restricted)
            ]
            assert texts[0] == texts[1], job


def test_without_selections_the_texts_of_jobs_do_not_mention_them():
    text = settings_for(configured(), "report")
    assert '"only"' not in text and '"except"' not in text
    assert all('"seeds"' not in json.dumps(m) for m in finetune_of(text).values())
    assert "runs" not in json.loads(settings_for(configured(), "figures", "tiny"))


def finetune_of(report: str) -> dict:
    return json.loads(report)["experiments"]["tiny"]["finetune"]


WRONG = {
    "misspelt name": (
        {"preconditioned": {"only": ["survy-1"]}},
        {},
        ["`experiments.tiny.finetune.preconditioned.only` (='survy-1')", "did you mean `survey-1`"],
    ),
    "pattern that matches nothing": (
        {"preconditioned": {"except": ["zz*"]}},
        {},
        ["preconditioned.except` (='zz*')", "there is survey-1, survey-2, bench"],
    ),
    "nothing left": (
        {"preconditioned": {"except": ["*"]}},
        {},
        ["preconditioned.except` (=['*'])", "must leave at least one observation", "remove it"],
    ),
    "no reference left": (
        {},
        {"except": ["*"]},
        ["`experiments.tiny.reference.except`", "set its kind to none"],
    ),
    "empty list": ({"preconditioned": {"only": []}}, {}, ["only` (=[])", "at least one"]),
    "text for a list": ({"preconditioned": {"only": "bench"}}, {}, ["must be a list", "[a, b]"]),
    "seed twice": (
        {"preconditioned": {"seeds": [1, 1]}},
        {},
        ["finetune.preconditioned.seeds` (=[1, 1])", "different whole numbers"],
    ),
    "underscore": (
        {"preconditioned": {"except_": ["bench"]}},
        {},
        ["`experiments.tiny.finetune.preconditioned.except_` is not a setting", "`except`"],
    ),
    "reuse of a run that is not there": (
        {
            "replay": {"objective": "score_replay", "batch": 32},
            "again": {"objective": "score_replay", "batch": 32, "reuse": "replay", "seeds": [2]},
        },
        {},
        ["finetune.again.reuse` (='replay')", "survey-1, seed 2", "restrict both alike"],
    ),
}


@pytest.mark.parametrize(("finetune", "reference", "words"), WRONG.values(), ids=WRONG)
def test_a_mistake_stops_and_names_the_way_out(finetune, reference, words):
    with pytest.raises(PflowError) as error:
        configured(finetune, reference)
    assert not [word for word in words if word not in str(error.value)], str(error.value)
