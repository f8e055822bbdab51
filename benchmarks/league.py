"""The league: which method gives the best posterior after so many evaluations of F.

    python benchmarks/league.py             all problems, budgets and methods, three seeds (hours)
    python benchmarks/league.py --quick     two problems, budgets to 64, one seed: minutes
    python benchmarks/league.py --problem darcy --method surrogate laplace --seeds 1
    python benchmarks/league.py --table     table and figure of the rows that are there
    python benchmarks/league.py --summary   ours and the best rival, the table in docs/methods.md

Each finished cell is appended to benchmarks/results/league.csv; a rerun does what is missing. One
ledger counts for all: an evaluation is F with its gradient at one x, a product with the Jacobian
and its adjoint, or one row of the Jacobian. Judging costs no evaluation.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from evaluations_table import RESULTS
from league_figure import draw
from league_ours import OURS
from league_problems import PROBLEMS, QUICK, league_problem
from league_rivals import RIVALS
from league_table import BUDGETS, append, budget_of, read, summary, table

METHODS = (*OURS, *RIVALS)
DEFAULT = tuple(name for name in METHODS if name != "nuts")


@dataclass(frozen=True)
class Cell:
    """What is run at once: one of our methods with a budget, or a rival up to the largest one."""

    problem: str
    problem_seed: int
    seed: int
    method: str
    budget: int

    def done(self, rows: list[dict[str, Any]]) -> bool:
        """Whether its rows are there."""
        own = (self.problem, self.problem_seed, self.seed, self.method)
        spent = [
            row["evaluations"]
            for row in rows
            if own == tuple(row[name] for name in ("problem", "problem_seed", "seed", "method"))
        ]
        if self.method in RIVALS:
            return bool(spent)
        return any(self.budget / 2 < evaluations <= self.budget for evaluations in spent)

    def rows(self) -> list[dict[str, Any]]:
        """Run it."""
        given = league_problem(self.problem, self.problem_seed)
        key = {name: getattr(self, name) for name in ("problem", "problem_seed", "seed", "method")}
        if self.method in RIVALS:
            found = list(RIVALS[self.method](given, self.seed, self.budget))
            last = {budget_of(row["evaluations"]): row for row in found}  # the last that each pays
            return [key | row for row in last.values()]
        return [key | OURS[self.method](given, self.seed, self.budget)]


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """Seeds outermost, small budgets first: what is known early is spread over all problems."""
    for seed in range(options.seeds):
        for budget in options.budgets:
            for method in options.method:
                for name in options.problem:
                    setting = PROBLEMS[name]
                    if method == "surrogate_pretrained" and setting.hidden != 64:
                        continue  # with an affine layer the start is the same
                    if method in RIVALS and budget != options.budgets[0]:
                        continue
                    spent = max(options.budgets) if method in RIVALS else budget
                    for problem_seed in setting.seeds[: 1 if options.quick else None]:
                        yield Cell(name, problem_seed, seed, method, spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="two problems, budgets to 64, one seed"
    )
    parser.add_argument("--problem", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(DEFAULT))
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each method (default 3)")
    parser.add_argument("--budgets", nargs="+", type=int, choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--summary", action="store_true", help="run nothing; ours and the best")
    options = parser.parse_args()
    file = RESULTS / ("league_quick.csv" if options.quick else "league.csv")
    if options.quick:
        options.seeds, options.problem, options.budgets = 1, list(QUICK), [16, 64]
    torch.set_num_threads(1)
    failed = 0
    for cell in () if options.table or options.summary else cells(options):
        if cell.done(read(file)):
            continue
        began = time.perf_counter()
        try:
            rows = cell.rows()
        except Exception:  # one cell that fails must not end a run of hours; the exit status tells
            traceback.print_exc()
            print("FAILED", cell, flush=True)
            failed += 1
            continue
        append(file, rows)
        last = {k: round(v, 4) for k, v in rows[-1].items() if isinstance(v, float)} if rows else {}
        print(cell, last, f"{time.perf_counter() - began:.0f} s", flush=True)
    rows = read(file)
    if rows:
        print(summary(rows) if options.summary else table(rows))
        draw(rows, file.with_suffix(".png"))
    if failed:
        raise SystemExit(f"{failed} cells failed: see above")


if __name__ == "__main__":
    main()
