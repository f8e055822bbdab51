"""`python -m pflow STAGE ...`: one subcommand a stage, no logic.

Each rule of the pipeline calls exactly this, so the first line of every job's log is a command that
a person can paste. Imports are lazy: `--help` and a wrong argument answer at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pflow.errors import PflowError
from pflow.execution.interruption import Interrupted, StopSignals
from pflow.execution.job import job

__all__ = ["main"]

SETTINGS_HELP = (
    "the part of the configuration that this job depends on: JSON text, or the path of a file with"
    " it (`snakemake -n -p` prints it)"
)

# stage: (one line of help, settings class, {option: (kind, help)})
PRIOR = "spectrum or weights of the prior; absent for the problem's own"
IN, OPTIONAL, MANY, OUT = "input", "optional input", "inputs", "output"
STAGES: dict[str, tuple[str, str, dict[str, tuple[str, str]]]] = {
    "simulate": (
        "one shard of pairs (x, y) from the prior and an operator",
        "SimulateJobSettings",
        {"out": (OUT, "store to write")},
    ),
    "observe": (
        "the observation y_obs of the high-fidelity operator",
        "ObserveJobSettings",
        {"out": (OUT, "store to write")},
    ),
    "check_operator": (
        "tests of the operator and its gradient, and their cost",
        "CheckOperatorJobSettings",
        {"out": (OUT, "JSON to write")},
    ),
    "spectrum": (
        "the average spectrum of the training images, for a Gaussian prior",
        "SpectrumJobSettings",
        {"train-shards": (MANY, "training shards"), "out": (OUT, "store to write")},
    ),
    "reference": (
        "reference posterior: exact draws where the problem has them, or NUTS",
        "ReferenceJobSettings",
        {
            "observation": (IN, "observation store"),
            "prior": (OPTIONAL, "spectrum of a Gaussian reference"),
            "out": (OUT, "store to write"),
        },
    ),
    "pretrain": (
        "stage 1: a conditional flow from low-fidelity pairs",
        "PretrainJobSettings",
        {
            "train-shards": (MANY, "training shards"),
            "validation-shards": (MANY, "validation shards"),
            "out": (OUT, "folder for flow.safetensors, flow.json, history.csv"),
            "checkpoint": (OUT, "file that holds the state of an interrupted run"),
        },
    ),
    "calibrate": (
        "calibration of a pretrained flow over held-out pairs and at each observation",
        "CalibrateJobSettings",
        {
            "flow": (IN, "weights"),
            "train-shards": (MANY, "pairs that it was trained on"),
            "test-shards": (MANY, "pairs that it was not trained on"),
            "observations": (MANY, "observation stores, named after their observation"),
            "out": (
                OUT,
                "calibration.json to write; calibration.zarr with the ranks lies beside it",
            ),
        },
    ),
    "calibrate_method": (
        "calibration of fine-tuning over replicate observations",
        "CalibrateJobSettings",
        {
            "flows": (MANY, "weights of the method at each replicate observation"),
            "observations": (MANY, "the replicate observations, in the same order"),
            "out": (OUT, "JSON to write"),
        },
    ),
    "finetune": (
        "stage 2: one observation, one method, one seed, with the expensive operator",
        "FinetuneJobSettings",
        {
            "observation": (IN, "observation store"),
            "pretrained": (
                OPTIONAL,
                "weights to start from; absent for methods with `start: random`",
            ),
            "prior": (OPTIONAL, PRIOR),
            "operator": (OPTIONAL, "operator.json, whose measured cost decides `objective: auto`"),
            "reuse": (
                OPTIONAL,
                (
                    "weights of the method whose evaluations are reused; these lie beside the"
                    " checkpoints"
                ),
            ),
            "out": (OUT, "folder for flow.safetensors, flow.json, history.csv"),
            "checkpoint": (OUT, "file that holds the state of an interrupted run"),
        },
    ),
    "sample": (
        "posterior draws with densities, weights and predictions",
        "SampleJobSettings",
        {
            "flow": (IN, "weights"),
            "prior": (OPTIONAL, PRIOR),
            "observation": (IN, "observation store"),
            "out": (OUT, "store to write"),
        },
    ),
    "evaluate": (
        "accuracy, cost and verdict of one posterior",
        "EvaluateJobSettings",
        {
            "posterior": (IN, "posterior store"),
            "flow": (IN, "weights that drew it"),
            "prior": (OPTIONAL, PRIOR),
            "reference": (
                OPTIONAL,
                "reference store; without it only what needs no truth is computed",
            ),
            "calibration": (
                OPTIONAL,
                "calibration.json of the pretrained flow that the method starts from",
            ),
            "method-calibration": (
                OPTIONAL,
                "calibration of the method over replicate observations",
            ),
            "out": (OUT, "metrics.json to write"),
        },
    ),
    "figures": (
        "every figure of one experiment, from its stores alone",
        "FiguresJobSettings",
        {"results": (IN, "folder of the experiment"), "out": (OUT, "folder of figures")},
    ),
    "report": (
        "one self-contained HTML page over all experiments",
        "ReportJobSettings",
        {"results": (IN, "folder of all results"), "out": (OUT, "HTML file to write")},
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage; exit status 0, 1 (a rule was broken: one message, no traceback), 2 (usage),
    128 + signal.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(arguments)
    options.arguments = arguments
    if options.stage is None:
        _parser().print_help()
        return 2
    if options.stage in ("status", "new", "run"):
        return _outside_of_stages(options)
    print("$ python -m pflow " + shlex.join(arguments), flush=True)
    with StopSignals() as signals:
        try:
            _run(options)
        except BaseException as error:
            if isinstance(error, Interrupted) or signals.received:
                message = (
                    error
                    if isinstance(error, Interrupted)
                    else "nothing was left half-written; run again"
                )
                print(f"interrupted: {message}", file=sys.stderr)
                return 128 + (signals.received or error.signal_number)
            if not isinstance(error, PflowError):
                raise
            if _processes(options) > 1:
                importlib.import_module("pflow.execution.parallel").leave_message(str(error))
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


def _outside_of_stages(options: argparse.Namespace) -> int:
    """`status`, `new` and `run`: about a project, not one of its jobs."""
    try:
        if options.stage == "status":
            print(importlib.import_module("pflow.pipeline.status").status(options.folder))
            return 0
        project = importlib.import_module("pflow.pipeline.project")
        if options.stage == "run":
            return project.run(options.configuration, options.further)
        problem, configuration, test = project.new(options.name, Path())
        print(
            f"{problem}: your operator and prior\n{configuration}: the experiment\n{test}: try it"
            f" with `pytest {test}`\nThen: python -m pflow run {configuration}"
        )
    except PflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    text = _settings_text(options.settings)
    importlib.import_module("pflow.provenance.planned").load_planned_code(options.stage, text)
    module = importlib.import_module(f"pflow.stages.{options.stage}")
    stage_settings = importlib.import_module("pflow.config.jobs")
    decode = importlib.import_module("pflow.config.decoding").decode
    provenance, finished = (
        importlib.import_module(f"pflow.{name}")
        for name in ("provenance.record", "execution.finished")
    )
    _, settings_class, paths = STAGES[options.stage]
    settings = decode(getattr(stage_settings, settings_class), json.loads(text), "")
    if getattr(options, "workers", 1) > 1:
        settings = dataclasses.replace(
            settings, problem=stage_settings.with_workers(settings.problem, options.workers)
        )
    values: dict[str, Any] = {
        name.replace("-", "_"): getattr(options, name.replace("-", "_")) for name in paths
    }
    inputs = {}
    for name, (kind, _) in paths.items():
        value = values[name.replace("-", "_")]
        for i, path in enumerate(value if kind == MANY else [value]):
            if kind != OUT and path is not None:
                if not path.exists():
                    raise PflowError(
                        f"--{name} (={path}) must exist: run the stage that makes it, or"
                        " `snakemake`"
                    )
                if path.is_file():
                    inputs[f"{name}-{i}" if kind == MANY else name] = path
    record = provenance.provenance(options.stage, text, inputs)
    identity = provenance.identity(record)
    run = functools.partial(
        getattr(module, options.stage), settings, record, **values, threads=options.threads
    )
    if _processes(options) > 1:
        parallel = importlib.import_module("pflow.execution.parallel")
        if parallel.is_worker():
            return run()
        message = options.checkpoint.with_name("message")
        run = functools.partial(
            parallel.run_workers,
            options.arguments,
            options.devices,
            options.nodes,
            options.threads,
            message,
        )
    with job(options.out, getattr(options, "checkpoint", None), identity, options.attempt) as lock:
        checkpoint = getattr(options, "checkpoint", None)
        if checkpoint and finished.restore_finished(options.out, checkpoint, identity):
            print("made by an earlier job, whose end was not seen: nothing to do", file=sys.stderr)
        elif lock.waited and provenance.made(options.out, identity):
            print("made by the other job meanwhile: nothing to do", file=sys.stderr)
        else:
            run()
            if checkpoint:
                finished.keep_finished(options.out, checkpoint)


def _processes(options: argparse.Namespace) -> int:
    """How many processes share the work of a stage."""
    return getattr(options, "devices", 1) * getattr(options, "nodes", 1)


def _settings_text(given: str) -> str:
    """The JSON text itself, or the content of the file that `given` names."""
    text = given
    if not given.lstrip().startswith(("{", "[")):
        try:
            text = Path(given).read_text(encoding="utf-8")
        except OSError as error:
            raise PflowError(
                f"--settings (={given}) must be JSON text or a readable file: {error.strerror}"
            ) from error
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except json.JSONDecodeError as error:
        raise PflowError(f"--settings is not valid JSON: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pflow",
        description=(
            "Posterior samples of inverse problems with preconditioned normalizing flows."
            " `snakemake` runs the whole pipeline; each stage below also runs by itself, from files"
            " to files."
        ),
    )
    stages = parser.add_subparsers(dest="stage", metavar="STAGE")
    status = stages.add_parser(
        "status",
        help="what is done, running and missing, and the newest metrics",
        description="What is done, running and missing, from the files alone.",
    )
    status.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path(),
        metavar="FOLDER",
        help="the folder of config.yaml (default: here), or a configuration file that is run here",
    )
    new = stages.add_parser(
        "new",
        help="a problem of your own: its Python file, configuration and test, in this folder",
        description="Write NAME.py, NAME.yaml and test_NAME.py.",
    )
    new.add_argument("name", metavar="NAME", help="such as my_problem")
    run = stages.add_parser(
        "run",
        help="the whole pipeline in this folder, with your configuration",
        description="Run the pipeline in this folder with one configuration file alone.",
    )
    run.add_argument(
        "configuration",
        type=Path,
        nargs="?",
        default=Path("config.yaml"),
        metavar="FILE",
        help="your configuration (default: config.yaml)",
    )
    run.add_argument(
        "further",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="arguments of Snakemake, such as -n, a target, or --workflow-profile slurm",
    )
    for name, (summary, _, paths) in STAGES.items():
        stage = stages.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
        )
        stage.add_argument("--settings", required=True, metavar="JSON", help=SETTINGS_HELP)
        for option, (kind, text) in paths.items():
            stage.add_argument(
                f"--{option}",
                type=Path,
                required=kind != OPTIONAL,
                nargs="+" if kind == MANY else None,
                metavar="PATH",
                help=f"{kind}: {text}",
            )
        if name == "pretrain":
            stage.add_argument(
                "--devices",
                type=int,
                default=1,
                metavar="N",
                help="processes on each node that share every batch (default 1)",
            )
            stage.add_argument(
                "--nodes",
                type=int,
                default=1,
                metavar="N",
                help="nodes of the SLURM job that it runs in (default 1)",
            )
        if name in ("simulate", "check_operator", "reference", "finetune", "sample"):
            stage.add_argument(
                "--workers",
                type=int,
                default=1,
                metavar="N",
                help=(
                    "processes that evaluate the operator, where the problem has `workers`"
                    " (default 1)"
                ),
            )
        stage.add_argument(
            "--attempt",
            type=int,
            default=1,
            metavar="N",
            help="above 1: a retry, which does not repeat a lasting error (default 1)",
        )
        stage.add_argument(
            "--threads", type=int, default=1, metavar="N", help="CPU threads (default 1)"
        )
    return parser
