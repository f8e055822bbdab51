"""The stages of the pipeline, each declared once: name, settings, paths, options, results.

The command line, the rules, the status and the settings of jobs read this declaration. The code of
a stage is the function `pflow.stages.NAME.NAME`, which is imported when the stage runs.
"""

from __future__ import annotations

import json
from typing import Any

from pflow.config import jobs
from pflow.config.decoding import encode
from pflow.config.experiment import Configuration
from pflow.pipeline import job_settings
from pflow.pipeline.files import ExperimentFiles
from pflow.pipeline.stage import Argument, Stage
from pflow.storage.layout import root_file
from pflow.storage.results import (
    calibration_results,
    figure_results,
    flow_results,
    store_results,
)

__all__ = ["STAGES", "settings_for"]


def settings_for(
    configuration: Configuration, stage: str, experiment: str | None = None, **wildcards: Any
) -> str:
    """The JSON text for one job of `stage`: all that its result depends on, on its command line.

    A change elsewhere in the configuration leaves the text as it is, so Snakemake reruns exactly
    what the change touches.

    Arguments:
        configuration: the whole of it.
        stage: its name.
        experiment: absent for the report, which is over all of them.
        wildcards: the others of the stage's rule.
    """
    build = STAGES[stage].build
    if experiment is None:
        settings = build(configuration)
    else:
        e = job_settings.with_one_worker(configuration.experiments[experiment])
        settings = build(e, experiment, **wildcards)
    return json.dumps(encode(settings), sort_keys=True)


OBSERVATION = Argument("observation", "input", "observation store")
PRIOR = Argument(
    "prior", "optional input", "spectrum or weights of the prior; absent for the problem's own"
)
WEIGHTS = Argument("flow", "input", "weights")
TRAIN_SHARDS = Argument("train-shards", "inputs", "training shards")
STORE = Argument("out", "output", "store to write")
JSON = Argument("out", "output", "JSON to write")
FLOW = Argument("out", "output", "folder for flow.safetensors, flow.json, history.csv")
CHECKPOINT = Argument("checkpoint", "output", "file that holds the state of an interrupted run")

_ALL = (
    Stage(
        "simulate",
        "one shard of pairs (x, y) from the prior and an operator",
        jobs.SimulateJobSettings,
        job_settings.simulate,
        (STORE,),
        ExperimentFiles.all_shards,
        product=False,
        option="workers",
        outputs=store_results,
    ),
    Stage(
        "observe",
        "the observation y_obs of the high-fidelity operator",
        jobs.ObserveJobSettings,
        job_settings.observe,
        (STORE,),
        ExperimentFiles.observations,
        product=False,
        outputs=store_results,
    ),
    Stage(
        "check_operator",
        "tests of the operator and its gradient, and their cost",
        jobs.CheckOperatorJobSettings,
        job_settings.check_operator,
        (JSON,),
        ExperimentFiles.operator,
        option="workers",
    ),
    Stage(
        "spectrum",
        "the average spectrum of the training images, for a Gaussian prior",
        jobs.SpectrumJobSettings,
        job_settings.spectrum,
        (TRAIN_SHARDS, STORE),
        ExperimentFiles.spectra,
        product=False,
        outputs=store_results,
    ),
    Stage(
        "reference",
        "reference posterior: exact draws where the problem has them, or NUTS",
        jobs.ReferenceJobSettings,
        job_settings.reference,
        (
            OBSERVATION,
            Argument("prior", "optional input", "spectrum of a Gaussian reference"),
            STORE,
            Argument("points", "output", "file that holds the evaluations of a killed NUTS run"),
        ),
        ExperimentFiles.references,
        option="workers",
        outputs=store_results,
    ),
    Stage(
        "pretrain",
        "stage 1: a conditional flow from low-fidelity pairs",
        jobs.PretrainJobSettings,
        job_settings.pretrain,
        (
            TRAIN_SHARDS,
            Argument("validation-shards", "inputs", "validation shards"),
            Argument(
                "start",
                "optional input",
                "weights of the flow that it starts from; absent for random ones",
            ),
            FLOW,
            CHECKPOINT,
        ),
        lambda files: files.flows(lambda flow: flow.weights),
        option="devices",
        outputs=flow_results,
    ),
    Stage(
        "calibrate",
        "calibration of a pretrained flow over held-out pairs and at each observation",
        jobs.CalibrateJobSettings,
        job_settings.calibrate,
        (
            WEIGHTS,
            Argument("train-shards", "inputs", "pairs that it was trained on"),
            Argument("test-shards", "inputs", "pairs that it was not trained on"),
            Argument("observations", "inputs", "observation stores, named after their observation"),
            Argument(
                "out",
                "output",
                "calibration.json to write; calibration.zarr with the ranks lies beside it",
            ),
        ),
        lambda files: files.flows(lambda flow: flow.calibration),
        outputs=calibration_results,
    ),
    Stage(
        "calibrate_method",
        "calibration of fine-tuning over replicate observations",
        jobs.CalibrateJobSettings,
        job_settings.calibrate_method,
        (
            Argument("flows", "inputs", "weights of the method at each replicate observation"),
            Argument("observations", "inputs", "the replicate observations, in the same order"),
            JSON,
        ),
        ExperimentFiles.method_calibrations,
    ),
    Stage(
        "finetune",
        "stage 2: one observation, one method, one seed, with the expensive operator",
        jobs.FinetuneJobSettings,
        job_settings.finetune,
        (
            OBSERVATION,
            Argument(
                "pretrained",
                "optional input",
                "weights to start from; absent for methods with `start: random`",
            ),
            PRIOR,
            Argument(
                "operator",
                "optional input",
                "operator.json, whose measured cost decides `objective: auto`",
                decides=False,  # measured anew, the cost is never quite the same
            ),
            Argument(
                "reuse",
                "optional input",
                "weights of the method whose evaluations are reused; these lie beside the"
                " checkpoints",
            ),
            FLOW,
            CHECKPOINT,
        ),
        lambda files: files.runs(lambda run: run.weights),
        option="workers",
        outputs=flow_results,
    ),
    Stage(
        "sample",
        "posterior draws with densities, weights and predictions",
        jobs.SampleJobSettings,
        job_settings.sample,
        (WEIGHTS, PRIOR, OBSERVATION, STORE),
        lambda files: files.runs(lambda run: root_file(run.posterior)),
        option="workers",
        outputs=store_results,
    ),
    Stage(
        "evaluate",
        "accuracy, cost and verdict of one posterior",
        jobs.EvaluateJobSettings,
        job_settings.evaluate,
        (
            Argument("posterior", "input", "posterior store"),
            Argument("flow", "input", "weights that drew it"),
            PRIOR,
            Argument(
                "reference",
                "optional input",
                "reference store; without it only what needs no truth is computed",
            ),
            Argument(
                "calibration",
                "optional input",
                "calibration.json of the pretrained flow that the method starts from",
            ),
            Argument(
                "method-calibration",
                "optional input",
                "calibration of the method over replicate observations",
            ),
            Argument("out", "output", "metrics.json to write"),
        ),
        lambda files: files.runs(lambda run: run.metrics),
    ),
    Stage(
        "figures",
        "every figure of one experiment, from its stores alone",
        jobs.FiguresJobSettings,
        job_settings.figures,
        (
            Argument("results", "input", "folder of the experiment"),
            Argument("out", "output", "folder of figures"),
        ),
        ExperimentFiles.figures,
        outputs=figure_results,
    ),
    Stage(
        "report",
        "one self-contained HTML page over all experiments",
        jobs.ReportJobSettings,
        job_settings.report,
        (
            Argument("results", "input", "folder of all results"),
            Argument(
                "failures",
                "optional input",
                "what failed, for a page about what is complete; absent where all is",
            ),
            Argument("out", "output", "HTML file to write"),
        ),
        None,
    ),
)
STAGES: dict[str, Stage] = {stage.name: stage for stage in _ALL}
