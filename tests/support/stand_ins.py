"""Results without their jobs: small files with the origins that the jobs would have written."""

from __future__ import annotations

from pathlib import Path

from pflow.execution.origin import input_states, record_origin
from pflow.pipeline.inputs import ONLY_THERE
from pflow.pipeline.planned_jobs import planned_jobs
from pflow.pipeline.stages import STAGES
from pflow.pipeline.workflow import Pipeline
from pflow.storage.origins import file_hash
from pflow.storage.text_files import write_json

IN_A_FOLDER = ("pretrain", "finetune", "figures")  # their jobs are given the folder


def make_stand_ins(pipeline: Pipeline) -> None:
    """Every result of a configuration, in the order of the data; a figure among them, and what
    batches of observations say.
    """
    for job in planned_jobs(pipeline):
        main = Path(job.result)
        out = main.parent if job.stage in IN_A_FOLDER else main
        more = [out / "accuracy.png", out / "accuracy.svg"] if job.stage == "figures" else []
        inputs = pipeline.inputs_of(job.stage, job.wildcards)
        read = input_states(
            main,
            [Path(file) for name in inputs.keys() - {"data", *ONLY_THERE} for file in inputs[name]],
            inputs.get("data", []),
        )
        for file in (*STAGES[job.stage].outputs(out), *more):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{file}\n")
        record_origin(
            job.stage,
            pipeline.text(job.stage, job.wildcards),
            pipeline.code(job.stage)(job.wildcards).removeprefix("code-"),
            read,
            STAGES[job.stage].outputs(out),
        )
    for file, batch in pipeline.batches.items():
        jobs = pipeline.jobs_of_batches[file]
        content = {
            "observations_per_job": batch.size,
            "observations": {
                name: [file_hash(j.result) for j in jobs if j.wildcards.observation == name]
                for name in batch.observations
            },
            "failed": {},
        }
        write_json(file, content)
