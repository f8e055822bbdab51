"""Which observations share a job, and when such a job has to run: on results whose jobs are
stand-ins.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from pflow.pipeline.batch_sizes import VARIABLE
from pflow.pipeline.batches import OBSERVE, RUNS, read_batch
from pflow.pipeline.out_of_date import compare
from pflow.pipeline.planned_jobs import Wildcards, planned_jobs
from pflow.pipeline.workflow import Pipeline
from pflow.storage.layout import ExperimentFolder
from pflow.storage.text_files import write_json
from tests.support.project import TINY
from tests.support.stand_ins import make_stand_ins

FOLDER = ExperimentFolder(Path("results/tiny"))
COSTLY = {"seconds_per_forward": 10.0, "seconds_per_gradient": 20.0}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)


def pipeline(count: int = 5, **changes) -> Pipeline:
    """Observations y0, y1, ... of the tiny experiment."""
    config = copy.deepcopy(TINY)
    tiny = config["experiments"]["tiny"]
    tiny["observations"] = {f"y{k}": {"seed": k} for k in range(count)}
    tiny["finetune"] = {
        name: tiny["finetune"][name] | changes.get(name, {})
        for name in ("amortized", "preconditioned")
    }
    tiny["resources"] = changes.get("resources", {"observations_per_job": 2})
    return Pipeline(config, Path())


def sizes(wanted: Pipeline, method: str = "") -> list[int]:
    """Observations of each batch of a method, or of observations themselves."""
    stages = RUNS if method else OBSERVE
    chosen = [b for b in wanted.batches.values() if (b.stages, b.method) == (stages, method)]
    return [len(batch.observations) for batch in chosen]


def test_up_to_twenty_observations_have_jobs_of_their_own():
    assert pipeline(20, resources={}).batches == {}
    assert pipeline(200, resources={"observations_per_job": 1}).batches == {}
    assert sum(sizes(pipeline(21, resources={}), "amortized")) == 21


def test_every_job_of_an_observation_is_in_one_batch():
    wanted = pipeline(5)
    assert sizes(wanted, "amortized") == [2, 2, 1]
    in_batches = [job for jobs in wanted.jobs_of_batches.values() for job in jobs]
    of_observations = [j for j in planned_jobs(wanted) if "observation" in vars(j.wildcards)]
    assert sorted(job.result for job in in_batches) == sorted(job.result for job in of_observations)
    first = wanted.jobs_of_batches[str(FOLDER.run_batch("preconditioned", 0, 0))]
    assert [(job.wildcards.observation, job.stage) for job in first] == [
        (name, stage) for name in ("y0", "y1") for stage in RUNS
    ]


def test_a_batch_has_the_observations_that_its_method_wants():
    wanted = pipeline(5, preconditioned={"only": ["y1", "y3", "y4"]})
    assert sizes(wanted, "amortized") == [2, 2, 1] and sizes(wanted, "preconditioned") == [2, 1]
    file = str(FOLDER.run_batch("preconditioned", 0, 0))
    assert wanted.batches[file].observations == ("y1", "y3")
    inputs = wanted.batch_inputs(file)
    assert wanted.tracked(inputs["observation"]) == [
        str(FOLDER.observation_batch(0)),
        str(FOLDER.observation_batch(1)),
    ]


def test_the_measured_cost_of_the_operator_decides_how_many_share_a_job():
    cheap = sizes(pipeline(1000, resources={}), "preconditioned")
    assert len(cheap) == 8  # with which all cores have something to do
    write_json(FOLDER.operator, COSTLY)
    costly = sizes(pipeline(1000, resources={}), "preconditioned")
    assert len(costly) == 1000  # 96 evaluations of 20 s, and 10 s for each draw
    assert sizes(pipeline(1000, resources={})) == cheap  # observing needs no evaluation


def test_a_cost_that_is_measured_anew_changes_no_batch_that_is_there():
    make_stand_ins(pipeline(40, resources={}))
    write_json(FOLDER.operator, COSTLY)
    assert sizes(pipeline(40, resources={}), "preconditioned") == [5] * 8
    FOLDER.run_batch("preconditioned", 0, 0).unlink()  # Snakemake deletes it where a job fails
    assert sizes(pipeline(40, resources={}), "preconditioned") == [5] * 8


def test_a_job_in_a_cluster_takes_the_sizes_of_its_controller(monkeypatch):
    chosen = {str(FOLDER.run_batch("preconditioned", 0, 0).parent): 7}
    monkeypatch.setenv(VARIABLE, json.dumps(chosen))
    assert sizes(pipeline(40, resources={}), "preconditioned") == [7] * 5 + [5]


def test_the_time_of_a_batch_grows_with_its_observations_and_evaluations():
    write_json(FOLDER.operator, COSTLY)
    wildcards = Wildcards(experiment="tiny", method="preconditioned", seed="0", batch="0")
    minutes = [
        pipeline(40, resources={"observations_per_job": n}).batch_runtime("run_batch")(wildcards, 1)
        for n in (5, 10)
    ]
    evaluating = (96 + 256) * 20.0 + (200 + 1000) * 10.0  # seconds of one observation
    assert minutes[0] > 3 * 5 * evaluating / 60 and minutes[1] == pytest.approx(
        2 * minutes[0], rel=0.01
    )


def test_nothing_is_to_be_done_after_it_was_made():
    make_stand_ins(pipeline())
    states = compare(pipeline())
    assert states.reasons == {} and states.unfinished == set()
    assert states.finished == set(pipeline().batches)


@pytest.mark.parametrize(
    "change",
    [
        lambda run: run.metrics.unlink(),
        lambda run: run.metrics.write_text("edited"),
        lambda run: run.history.unlink(),
        lambda run: run.weights.write_text("edited"),
        lambda run: (run.posterior / "zarr.json").write_text("edited"),
    ],
)
def test_a_result_that_was_deleted_or_edited_puts_its_batch_out_of_date(change):
    make_stand_ins(pipeline())
    change(FOLDER.run("y3", "amortized", 0))
    assert compare(pipeline()).unfinished == {str(FOLDER.run_batch("amortized", 0, 1))}


def test_a_setting_of_one_method_concerns_its_batches():
    make_stand_ins(pipeline())
    states = compare(pipeline(preconditioned={"evaluations": 64}))
    assert states.unfinished == {
        str(FOLDER.run_batch("preconditioned", 0, batch)) for batch in range(3)
    }


def test_a_new_observation_concerns_the_batch_that_it_is_in():
    make_stand_ins(pipeline(5))
    states = compare(pipeline(6))
    last = {FOLDER.observation_batch(2), FOLDER.reference_batch(2)}
    last |= {FOLDER.run_batch(method, 0, 2) for method in ("amortized", "preconditioned")}
    assert {str(file) for file in last} <= states.unfinished


def test_an_observation_that_could_not_be_made_is_tried_again_and_concerns_no_other():
    make_stand_ins(pipeline())
    batch = FOLDER.observation_batch(1)
    said = read_batch(batch)
    del said["observations"]["y3"]
    write_json(batch, said | {"failed": {"y3": "why"}})
    (FOLDER.observation("y3") / "zarr.json").unlink()
    states = compare(pipeline())
    assert states.unfinished == {str(batch)}
    assert str(FOLDER.run("y2", "amortized", 0).metrics) in states.right


def test_other_sizes_make_the_files_of_batches_anew_and_no_result():
    make_stand_ins(pipeline())
    states = compare(pipeline(resources={"observations_per_job": 3}))
    assert states.reasons == {}
    assert states.unfinished == set(pipeline(resources={"observations_per_job": 3}).batches)
