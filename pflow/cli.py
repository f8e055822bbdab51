"""`python -m pflow STAGE ...`: one subcommand a stage, and `new`, `run`, `status`, `plot`,
`serve` and `forget` of a project.

Each rule of the pipeline calls exactly this, so the first line of every job's log is a command that
reruns the job. A stage is imported when it runs: `--help` and a wrong argument answer at once.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pflow.errors import PflowError
from pflow.execution.interruption import Interrupted, StopSignals
from pflow.execution.threads import limit_threads
from pflow.execution.usage import Usage
from pflow.pipeline import forget, project
from pflow.pipeline.run_stage import process_count, run_stage
from pflow.pipeline.stage import Stage
from pflow.pipeline.stages import STAGES
from pflow.pipeline.status import status

__all__ = ["main", "parser"]

SETTINGS_HELP = (
    "the part of the configuration that this job depends on: JSON text, or the path of a file with"
    " it (`snakemake -n -p` prints it)"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; exit status 0, 1 (a rule was broken: one message, no traceback), 2 (usage),
    128 + signal.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(arguments)
    options.arguments = arguments
    if options.command is None:
        parser().print_help()
        return 2
    if options.command in STAGES:
        stage = STAGES[options.command]
        return _job(options, lambda _: run_stage(stage, options))
    if options.command == "batch":
        run_batch = importlib.import_module("pflow.pipeline.run_batch").run_batch
        return _job(options, lambda signals: run_batch(options, lambda: bool(signals.received)))
    try:
        return options.call(options)
    except PflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _job(options: argparse.Namespace, work: Callable[[StopSignals], None]) -> int:
    """Run a stage or a batch; a signal and a mistake of the user's end in one line."""
    print("$ python -m pflow " + shlex.join(options.arguments), flush=True)
    limit_threads(1 if process_count(options) > 1 else options.threads)
    usage = Usage()
    with StopSignals() as signals:
        try:
            work(signals)
            if options.benchmark:
                usage.write(options.benchmark)
        except BaseException as error:
            if isinstance(error, Interrupted) or signals.received:
                message: object = "nothing was left half-written; run again"
                number = signals.received or 0
                if isinstance(error, Interrupted):
                    message, number = error, signals.received or error.signal_number
                print(f"interrupted: {message}", file=sys.stderr)
                return 128 + number
            if not isinstance(error, PflowError):
                raise
            if process_count(options) > 1:
                importlib.import_module("pflow.execution.parallel").leave_message(str(error))
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


def _status(options: argparse.Namespace) -> int:
    print(status(options.folder))
    return 0


def _new(options: argparse.Namespace) -> int:
    problem, configuration, test = project.new(options.name, Path())
    print(
        f"{problem}: your operator and prior\n{configuration}: the experiment\n{test}: try it"
        f" with `pytest {test}`\nThen: python -m pflow run {configuration}"
    )
    return 0


def _run(options: argparse.Namespace) -> int:
    return project.run(options.configuration, options.further)


def _forget(options: argparse.Namespace) -> int:
    folder = project.results_of(options.configuration).experiment(options.experiment)
    forgettable = forget.find(folder, options.method)
    print(*(path for path in forgettable.paths), sep="\n")
    if not options.yes:
        print(
            f"These cost {forgettable.cost}. Nothing is deleted yet: repeat the command with --yes."
        )
        return 1
    forget.forget(folder, forgettable)
    print(f"Deleted. What is missing is made again by `snakemake`: {forgettable.cost}.")
    return 0


def _plot(options: argparse.Namespace) -> int:
    plot = importlib.import_module("pflow.plotting.command").plot
    print(*plot(options.folder, options.parameters, options.out), sep="\n")
    return 0


def _serve(options: argparse.Namespace) -> int:
    importlib.import_module("pflow.serving.server").serve(
        options.folder, options.port, options.target
    )
    return 0


def parser() -> argparse.ArgumentParser:
    """The arguments of every command."""
    command_line = argparse.ArgumentParser(
        prog="python -m pflow",
        description=(
            "Posterior samples of inverse problems with preconditioned normalizing flows."
            " `snakemake` runs the whole pipeline; each stage below also runs by itself, from files"
            " to files."
        ),
    )
    commands = command_line.add_subparsers(dest="command", metavar="STAGE")
    _add_project_commands(commands)
    for stage in STAGES.values():
        _add_stage(commands, stage)
    _add_batch(commands)
    return command_line


def _add_project_commands(commands: argparse._SubParsersAction) -> None:
    about = commands.add_parser(
        "status",
        help="what is done, running and missing, and the newest metrics",
        description="What is done, running and missing, from the files alone.",
    )
    about.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path(),
        metavar="FOLDER",
        help="the folder of config.yaml (default: here), or a configuration file that is run here",
    )
    about.set_defaults(call=_status)
    new = commands.add_parser(
        "new",
        help="a problem of your own: its Python file, configuration and test, in this folder",
        description="Write NAME.py, NAME.yaml and test_NAME.py.",
    )
    new.add_argument("name", metavar="NAME", help="such as my_problem")
    new.set_defaults(call=_new)
    run = commands.add_parser(
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
    run.set_defaults(call=_run)
    _add_plot(commands)
    _add_serve(commands)
    _add_forget(commands)


def _add_plot(commands: argparse._SubParsersAction) -> None:
    about = "figures and intervals of one posterior, as PNG, SVG and CSV files"
    parser = commands.add_parser("plot", help=about, description=f"{about[0].upper()}{about[1:]}.")
    _add_run(parser, "FOLDER")
    parser.add_argument(
        "--parameters",
        nargs="+",
        metavar="NAME",
        help="of marginals and pair plot, at most 8 (default: those that the data contract most)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("plots"), metavar="FOLDER", help="(default: plots)"
    )
    parser.set_defaults(call=_plot)


def _add_serve(commands: argparse._SubParsersAction) -> None:
    about = "the log density of one posterior, and its gradient, as a model of a UM-Bridge server"
    parser = commands.add_parser("serve", help=about, description=f"{about.capitalize()}.")
    _add_run(parser, "RESULT")
    parser.add_argument("--port", type=int, default=4243, metavar="N", help="(default: 4243)")
    parser.add_argument(
        "--target",
        action="store_true",
        help="also the logarithm of likelihood times prior, from the problem's operator",
    )
    parser.set_defaults(call=_serve)


def _add_run(parser: argparse.ArgumentParser, metavar: str) -> None:
    """The folder of one posterior."""
    parser.add_argument(
        "folder",
        type=Path,
        metavar=metavar,
        help="of one seed, such as results/rosenbrock/posteriors/y1/preconditioned/seed-0",
    )


def _add_forget(commands: argparse._SubParsersAction) -> None:
    about = "delete everything that was made for an experiment or a method, kept evaluations too"
    parser = commands.add_parser("forget", help=about, description=f"{about.capitalize()}.")
    parser.add_argument("experiment", metavar="EXPERIMENT", help="a folder of the results")
    parser.add_argument("method", nargs="?", metavar="METHOD", help="of `finetune` (default: all)")
    parser.add_argument(
        "--configuration",
        type=Path,
        default=Path("config.yaml"),
        metavar="FILE",
        help="the configuration that names the folder of results (default: config.yaml)",
    )
    parser.add_argument("--yes", action="store_true", help="delete; without it only tell")
    parser.set_defaults(call=_forget)


def _add_stage(commands: argparse._SubParsersAction, stage: Stage) -> None:
    description = f"{stage.help[0].upper()}{stage.help[1:]}."
    parser = commands.add_parser(stage.name, help=stage.help, description=description)
    parser.add_argument("--settings", required=True, metavar="JSON", help=SETTINGS_HELP)
    for argument in stage.arguments:
        parser.add_argument(
            f"--{argument.name}",
            type=Path,
            required=argument.kind != "optional input",
            nargs="+" if argument.kind == "inputs" else None,
            metavar="PATH",
            help=f"{argument.kind}: {argument.help}",
        )
    _add_job_options(parser, stage.option)


def _add_job_options(parser: argparse.ArgumentParser, option: str | None) -> None:
    """How a job runs."""
    if option == "devices":
        _add_number(parser, "devices", "processes on each node that share every batch")
        _add_number(parser, "nodes", "nodes of the SLURM job that it runs in")
    elif option == "workers":
        _add_number(
            parser,
            "workers",
            "processes that evaluate the operator, where the problem has `workers`",
        )
    parser.add_argument(
        "--benchmark", type=Path, metavar="PATH", help="output: time and memory of the job"
    )
    _add_number(parser, "attempt", "above 1: a retry, which does not repeat a lasting error")
    _add_number(parser, "threads", "CPU threads")


def _add_batch(commands: argparse._SubParsersAction) -> None:
    about = "some of these stages of several observations, one after the other"
    parser = commands.add_parser("batch", help=about, description=f"{about.capitalize()}.")
    parser.add_argument("--settings", required=True, metavar="JSON", help=SETTINGS_HELP)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="PATH", help="output: what was made"
    )
    _add_job_options(parser, "workers")


def _add_number(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    parser.add_argument(f"--{name}", type=int, default=1, metavar="N", help=f"{text} (default 1)")
