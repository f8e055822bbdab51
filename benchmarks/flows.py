"""Seconds and memory of a training step, side by side with FrEIA, zuko, nflows, normflows and
BayesFlow.

    python benchmarks/flows.py [--starts 6] [--rounds 4] [--quick]

Two steps are measured, each forward + loss + backward + Adam on one thread:

    vector   x and y in 2-D, batch 64: 8 couplings, 64 hidden in pflow
    image    x and y of 4x64x64 (in pflow 1x128x128 before its Haar transform), batch 4: 12
             couplings, 64 hidden, 3x3 kernels

The peers live in an environment of their own (benchmarks/.venv-peers, made at the first run; it
borrows this one's torch), and their hidden width is the one that comes nearest to pflow's number of
parameters. Each contestant is a process of its own: BayesFlow turns autograd off for all who share
its process. They run in turns, so that whatever else the machine does meets all of them, and are
started several times, because where a process finds its memory makes it up to a tenth faster or
slower for as long as it lives. What is reported is the median over all turns of the ratio to pflow,
of process time. Memory is what a step allocates at its peak beyond weights and Adam's moments.
Writes benchmarks/results/flows.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
ENVIRONMENT = HERE / ".venv-peers"
PEERS = ["FrEIA==0.2", "zuko==1.6.0", "nflows==0.14", "normflows==1.7.3", "bayesflow==2.0.12"]
CONTESTANTS = {
    "vector": [
        "pflow coupling",
        "pflow coupling, compiled",
        "pflow chint",
        "zuko RealNVP",
        "FrEIA AllInOneBlock",
        "nflows affine coupling",
        "normflows MAF",
        "BayesFlow CouplingFlow",
    ],
    "image": [
        "pflow coupling, store",
        "pflow coupling, checkpoint",
        "pflow coupling, invert",
        "pflow chint, store",
        "FrEIA AllInOneBlock",
        "nflows affine coupling",
    ],
}
AIMS = {  # (contestant, divided by) -> the ratio of times that it shall reach at least
    ("vector", "pflow coupling"): {
        "zuko RealNVP": 1.5,
        "FrEIA AllInOneBlock": 2.0,
        "nflows affine coupling": 2.0,
        "BayesFlow CouplingFlow": 2.0,
    },
    ("vector", "pflow coupling, compiled"): dict.fromkeys(
        ["zuko RealNVP", "FrEIA AllInOneBlock", "nflows affine coupling", "BayesFlow CouplingFlow"],
        3.0,
    ),
    ("image", "pflow coupling, store"): {"FrEIA AllInOneBlock": 1.0, "nflows affine coupling": 1.0},
    ("image", "pflow coupling, checkpoint"): {
        "FrEIA AllInOneBlock": 1 / 1.4,
        "nflows affine coupling": 1 / 1.4,
    },
}


def prepare() -> Path:
    """The peers' interpreter, with everything installed."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        print(f"Installing {', '.join(PEERS)} into {ENVIRONMENT} (some minutes) ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        (ENVIRONMENT / ".gitignore").write_text("*\n", encoding="utf-8")
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        ours = next(path for path in sys.path if path.endswith("site-packages"))
        (ENVIRONMENT / "lib" / version / "site-packages" / "outer.pth").write_text(
            f"{ours}\n", encoding="utf-8"
        )
    subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PEERS],
        check=True,
    )
    return python


class Contestant:
    """A process that takes steps when it is told to."""

    def __init__(self, python: Path, kind: str, name: str, parameters: int) -> None:
        command = [str(python), str(HERE / "flow_steps.py"), kind, name, str(parameters)]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "KINETO_LOG_LEVEL": "99",
            "KERAS_BACKEND": "torch",
            "PYTHONPATH": str(HERE.parent),
        }
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.milliseconds: list[float] = []
        self.facts = self._answer()

    def turn(self, steps: int) -> None:
        """Take some steps, and note the median time of one."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        self.milliseconds.append(self._answer()["milliseconds"])

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, float]:
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{' '.join(self.process.args)} ended without an answer")


def measure(
    python: Path, kind: str, starts: int, rounds: int, names: list[str]
) -> list[dict[str, object]]:
    facts, milliseconds = run_contests(python, kind, starts, rounds, names)
    base = names[0]
    rows = []
    for name in names:
        pairs = zip(milliseconds[name], milliseconds[base], strict=True)
        row = {
            "step": kind,
            "flow": name,
            **facts[name],
            "milliseconds": round(median(milliseconds[name]), 3),
            "time_ratio": round(median(mine / theirs for mine, theirs in pairs), 3),
        }
        rows.append(
            {**row, "memory_ratio": round(facts[name]["memory_mb"] / facts[base]["memory_mb"], 3)}
        )
    print_rows(rows)
    print_aims(kind, names, milliseconds)
    print(flush=True)
    return rows


def run_contests(
    python: Path, kind: str, starts: int, rounds: int, names: list[str]
) -> tuple[dict[str, dict[str, float]], dict[str, list[float]]]:
    """Facts of every contestant, and milliseconds of its steps: all take turns."""
    facts: dict[str, dict[str, float]] = {}
    milliseconds: dict[str, list[float]] = {name: [] for name in names}
    for start in range(starts):
        contestants: list[Contestant] = []
        for name in names:
            contestants.append(
                Contestant(python, kind, name, int(facts[names[0]]["parameters"]) if facts else 0)
            )
            facts.setdefault(name, contestants[-1].facts)
            if start == 0:
                print(f"  {name}: {facts[name]}", flush=True)
        for _ in range(rounds):
            for contestant in contestants:
                contestant.turn(20 if kind == "vector" else 2)
        for name, contestant in zip(names, contestants, strict=True):
            milliseconds[name] += contestant.milliseconds
            contestant.close()
        print(f"  start {start + 1} of {starts} done", flush=True)
    return facts, milliseconds


def print_rows(rows: list[dict[str, object]]) -> None:
    print(
        f"\n{'step':8}{'flow':28}{'parameters':>11}{'hidden':>8}{'ms':>10}"
        f"{'x time':>9}{'MB':>9}{'x memory':>10}"
    )
    shown = [
        "step",
        "flow",
        "parameters",
        "hidden",
        "milliseconds",
        "time_ratio",
        "memory_mb",
        "memory_ratio",
    ]
    for row in rows:
        columns = (row[name] for name in shown)
        print("{:8}{:28}{:>11}{:>8}{:>10.2f}{:>9.2f}{:>9.2f}{:>10.2f}".format(*columns))


def print_aims(kind: str, names: list[str], milliseconds: dict[str, list[float]]) -> None:
    for (of_kind, name), peers in AIMS.items():
        for peer, least in peers.items() if of_kind == kind and name in names else ():
            if peer in names:
                ratio = median(
                    p / own for p, own in zip(milliseconds[peer], milliseconds[name], strict=True)
                )
                print(
                    f"  {name} against {peer}: {ratio:.2f} times as fast (aim {least:.2f}):"
                    f" {'met' if ratio >= least else 'MISSED'}"
                )


def kept(path: Path, only: str | None) -> list[dict[str, object]]:
    """With `--only`, the rows of the other step from an earlier run."""
    if only is None or not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["step"] != only]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--starts", type=int, default=6, help="how often every contestant is started"
    )
    parser.add_argument(
        "--rounds", type=int, default=4, help="turns of every contestant in each start"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="leave out what takes minutes to start (BayesFlow, torch.compile)",
    )
    parser.add_argument(
        "--only",
        choices=tuple(CONTESTANTS),
        help="measure one of the two steps, and keep the other's rows",
    )
    arguments = parser.parse_args()
    python = prepare()
    path = HERE / "results" / "flows.csv"
    rows = kept(path, arguments.only)
    for kind, names in CONTESTANTS.items():
        if arguments.only in (None, kind):
            names = [
                name
                for name in names
                if not (arguments.quick and ("compiled" in name or "BayesFlow" in name))
            ]
            rows += measure(python, kind, arguments.starts, arguments.rounds, names)
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"{path} written")


if __name__ == "__main__":
    main()
