"""The reason of each failed job in one line, printed after `snakemake` has stopped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["first_useful_line", "summary_of_failures"]


def summary_of_failures(snakemake_logs: Iterable[str | Path]) -> str:
    """One line for each failed job that the logs of a Snakemake run name; empty if they name
    none.
    """
    text = "\n".join(
        Path(log).read_text(encoding="utf-8", errors="replace")
        for log in snakemake_logs
        if Path(log).is_file()
    )
    reasons = {}
    for block in re.split(r"\n(?=Error in (?:group|rule) |\[)", text):
        if "Error in " not in block:
            continue
        slurm = re.search(r"SLURM-job '[^']*' failed, SLURM status is: '[^']*'", block)
        for log in re.findall(r"^ *log: (\S+) \(check log file", block, re.M):
            reasons[log] = first_useful_line(Path(log)) or (
                slurm[0]
                if slurm
                else "ended without a message: out of memory, time limit or a lost node"
            )
    return "\n".join(f"{log}: {line}" for log, line in reasons.items())


def first_useful_line(log: Path) -> str:
    """The message of a failed stage: pflow's error, else the exception of a traceback, else "" if
    the log ends without either.
    """
    try:
        lines = [
            line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        ]
    except OSError:
        return ""
    for pattern in (
        r"error: ",
        r"interrupted: ",
        r"(\w+\.)*\w*(Error|Exception)\b",
        r"(slurmstepd|srun|sbatch|bash): ",
    ):
        for line in reversed(lines):
            if re.match(pattern, line):
                return line
    return ""
