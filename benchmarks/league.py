"""The league: which method gives the best posterior after so many evaluations of F.

    python benchmarks/league.py             all problems, budgets and methods, three seeds (hours)
    python benchmarks/league.py --quick     two problems, budgets to 64, one seed: minutes
    python benchmarks/league.py --problem darcy --method surrogate laplace --seeds 1
    python benchmarks/league.py --table     table and figure of the rows that are there
    python benchmarks/league.py --summary   ours and the best rival, the table in docs/methods.md
    python benchmarks/league.py --goals     ours and the best rival beside the goals set for it
    python benchmarks/league.py --compare surrogate surrogate_no_low    these methods side by side

Rivals from other packages (`pip install '.[benchmarks]'`) take part where those are installed. Each
finished cell is appended to benchmarks/results/league.csv; a rerun does what is missing. One
ledger counts for all: an evaluation is F with its gradient at one x, a product with the Jacobian
and its adjoint, or one row of the Jacobian. Judging costs no evaluation. Seconds are those of the
machine as it was, and compare methods only where nothing else ran.
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
from league_problems import PROBLEMS, QUICK, Setting, league_problem
from league_rivals import RIVALS
from league_summary import compared, goals, summary
from league_table import BUDGETS, append, budget_of, read, table

METHODS = (*OURS, *RIVALS)


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
            found = list(RIVALS[self.method].run(given, self.seed, self.budget))
            # The last that each budget pays; a row without errors says that there is no answer.
            found = found or [{"evaluations": self.budget}]
            last = {budget_of(row["evaluations"]): row for row in found}
            alike = [name for name, setting in PROBLEMS.items() if setting.like == self.problem]
            return [
                key | row | {"problem": name}
                for name in (self.problem, *alike)
                for row in last.values()
            ]
        return [key | OURS[self.method](given, self.seed, self.budget)]


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """Seeds outermost, small budgets first: what is known early is spread over all problems."""
    largest = max(options.budgets)
    for seed in range(options.seeds):
        for budget in options.budgets:
            for method in options.method:
                for name in options.problem:
                    setting = PROBLEMS[name]
                    if not _takes_part(method, setting):
                        continue
                    if method in RIVALS and budget != options.budgets[0]:
                        continue  # one run serves all budgets
                    spent = largest if method in RIVALS else budget
                    for problem_seed in setting.seeds[: 1 if options.quick else None]:
                        yield Cell(name, problem_seed, seed, method, spent)


def _takes_part(method: str, setting: Setting) -> bool:
    if method in OURS:  # with an affine layer the start is the same, pretrained or not
        return setting.few or method != "surrogate_pretrained"
    rival = RIVALS[method]
    fits = rival.few if setting.few else rival.many
    return fits and rival.installed and not setting.like


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="two problems, budgets to 64, one seed"
    )
    parser.add_argument("--problem", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each method (default 3)")
    parser.add_argument("--budgets", nargs="+", type=int, choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--summary", action="store_true", help="run nothing; ours and the best")
    parser.add_argument("--goals", action="store_true", help="run nothing; beside the goals")
    parser.add_argument("--compare", nargs="+", choices=METHODS, help="run nothing; these methods")
    options = parser.parse_args()
    file = RESULTS / ("league_quick.csv" if options.quick else "league.csv")
    if options.quick:
        options.seeds, options.problem, options.budgets = 1, list(QUICK), [16, 64]
    torch.set_num_threads(1)
    failed = 0
    shown = options.table or options.summary or options.goals or options.compare
    for cell in () if shown else cells(options):
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
        last = {k: round(v, 4) for k, v in rows[-1].items() if isinstance(v, float)}
        print(cell, last, f"{time.perf_counter() - began:.0f} s", flush=True)
    rows = read(file)
    if rows:
        print(_shown(options, rows))
        draw(rows, file.with_suffix(".png"))
    if failed:
        raise SystemExit(f"{failed} cells failed: see above")


def _shown(options: argparse.Namespace, rows: list[dict[str, Any]]) -> str:
    if options.compare:
        return compared(rows, options.compare)
    return (summary if options.summary else goals if options.goals else table)(rows)


if __name__ == "__main__":
    main()
