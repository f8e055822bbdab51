"""Accuracy against evaluations of F, for every way of fine-tuning and its peers.

    python benchmarks/evaluations.py            all problems, three seeds (50 minutes on two cores;
                                                without gaussian-1024 half an hour)
    python benchmarks/evaluations.py --quick    two small problems, one seed: about a minute
    python benchmarks/evaluations.py --problem lognormal-64 --seeds 1
    python benchmarks/evaluations.py --table    table, claims and figure of the rows that are there

Each problem has one pretraining, from which every method starts (score replay and path gradients
from random weights too); NUTS starts at draws of the pretrained flow, the normal guides at their
moments. Measuring costs no evaluation. Writes benchmarks/results/evaluations.csv (rows of other
problems are kept) and evaluations.png, and prints medians and quartiles over seeds, and what the
project claims.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from evaluation_cases import CASES, QUICK, Task, tasks_of
from evaluation_runs import posterior, pretrain, run
from evaluations_table import RESULTS, claims, read, table, write

Rows = list[dict[str, Any]]


def _call(arguments: tuple) -> Any:
    return arguments[0](*arguments[1:])


def run_all(tasks: list[Task], processes: int) -> Iterable[Rows]:
    """The rows of each curve, as they finish: first all references, then all pretrainings."""
    with (
        tempfile.TemporaryDirectory() as folder,
        get_context("spawn").Pool(processes, maxtasksperchild=20) as pool,
    ):
        cache = Path(folder)

        def once(function: Callable, keys: Iterable[tuple]) -> None:
            calls = [(function, *key, cache) for key in dict.fromkeys(keys)]
            pool.map(_call, calls, chunksize=1)

        once(posterior, ((task.problem, task.problem_seed) for task in tasks))
        pretrained = [task for task in tasks if task.start == "pretrained"]
        once(pretrain, ((task.problem, task.problem_seed, task.flow) for task in pretrained))
        yield from pool.imap_unordered(_call, [(run, task, cache) for task in tasks])


def describe(last: dict[str, Any]) -> str:
    """One line on the end of a curve."""
    kl = f"KL {last['kl_reverse_nats']:.3g} nats, " if "kl_reverse_nats" in last else ""
    return (
        f"{last['problem']} {last['problem_seed']} seed {last['seed']} "
        f" {last['method']} ({last['start']}): {kl}mean off by"
        f" {last['mean_error_posterior_std']:.3f} std after {last['evaluations']}"
        f" evaluations, {last['seconds']:.0f} s"
    )


def options_of() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two small problems, one seed")
    parser.add_argument(
        "--problem",
        choices=CASES,
        action="append",
        help="this problem only; may be given more than once",
    )
    parser.add_argument(
        "--method",
        action="append",
        help="this method only, by its name in the table; may be given more than once",
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each method (default 3)")
    parser.add_argument(
        "--processes",
        type=int,
        default=2,
        help="curves at the same time, one thread each (default 2)",
    )
    parser.add_argument(
        "--table",
        action="store_true",
        help="run nothing: table, claims and figure of the rows that are there",
    )
    return parser.parse_args()


def main() -> None:
    options = options_of()
    file = RESULTS / ("evaluations_quick.csv" if options.quick else "evaluations.csv")
    if not options.table:
        cases = QUICK if options.quick else {name: CASES[name] for name in options.problem or CASES}
        seeds = range(1 if options.quick else options.seeds)
        tasks = [
            task
            for name, case in cases.items()
            for task in tasks_of(name, case, seeds)
            if task.name in (options.method or [task.name])
        ]
        kept = [
            row
            for row in read(file)
            if row["problem"] not in cases
            or (options.method and row["method"] not in options.method)
        ]
        for done, rows in enumerate(run_all(tasks, options.processes), start=1):
            kept += rows
            write(file, kept)
            print(f"{done}/{len(tasks)} {describe(rows[-1])}", flush=True)
    rows = read(file)
    print(table(rows))
    print(claims(rows))
    from evaluations_figure import draw

    draw(rows, file.with_suffix(".png"))


if __name__ == "__main__":
    main()
