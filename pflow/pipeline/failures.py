"""The reason of each failed job in one line, printed after `snakemake` has stopped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["FAILED", "first_useful_line", "summary_of_failures"]

FAILED = "failed: "
"""How a line of a batch's log begins that names the log of a failed observation, and the reason."""


def summary_of_failures(snakemake_logs: Iterable[str | Path]) -> str:
    """One line for each failed job that the logs of a Snakemake run name, and for each failed
    observation of a batch; empty if they name none.
    """
    text = "\n".join(
        Path(log).read_text(encoding="utf-8", errors="replace")
        for log in snakemake_logs
        if Path(log).is_file()
    )
    reasons: dict[str, str] = {}
    for block in re.split(r"\n(?=Error in (?:group|rule) |\[)", text):
        if "Error in " not in block:
            continue
        slurm = re.search(r"SLURM-job '[^']*' failed, SLURM status is: '[^']*'", block)
        for log in re.findall(r"^ *log: (\S+) \(check log file", block, re.M):
            if of_observations := _failed_observations(Path(log)):
                reasons |= of_observations
                continue
            reasons[log] = first_useful_line(Path(log)) or (
                slurm[0]
                if slurm
                else "ended without a message: out of memory, time limit or a lost node"
            )
    return "\n".join(f"{log}: {line}" for log, line in reasons.items())


def _failed_observations(log: Path) -> dict[str, str]:
    """Of a batch that has ended: the log of each failed observation, and the reason."""
    lines = _lines(log)
    if not first_useful_line(log).startswith("error: "):
        return {}
    failed = (line.removeprefix(FAILED) for line in lines if line.startswith(FAILED))
    return {where: reason for where, _, reason in (line.partition(": ") for line in failed)}


def first_useful_line(log: Path) -> str:
    """The message of a failed stage: pflow's error, else the exception of a traceback, else "" if
    the log ends without either.
    """
    lines = _lines(log)
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


def _lines(log: Path) -> list[str]:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines()]
