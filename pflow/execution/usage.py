"""Time and memory of a job, in the columns of Snakemake's benchmark files.

A job measures itself, because Snakemake sees only processes that descend from a command, and those
of the server of jobs (`job_server`) do not.
"""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

from pflow.storage.atomic import replacing

__all__ = ["Usage"]


class Usage:
    """What this process and the processes that it has waited for have used since now.

    Arguments:
        of_several: whether the process runs several jobs, of which this is one; else its start
            counts too.
    """

    def __init__(self, of_several: bool = False) -> None:
        self._start = time.monotonic()
        self._before = _busy() if of_several else 0.0

    def write(self, path: Path) -> None:
        """Write seconds (s, h:m:s), the largest resident memory of one process in MB (max_rss),
        seconds of the processors (cpu_time) and these in percent of all seconds (mean_load).

        Raises:
            PflowError: the file cannot be written.
        """
        seconds = time.monotonic() - self._start
        memory = max(one.ru_maxrss for one in _used()) / 1024
        busy = _busy() - self._before
        rows = {
            "s": f"{seconds:.2f}",
            "h:m:s": str(datetime.timedelta(seconds=round(seconds))),
            "max_rss": f"{memory:.2f}",
            "cpu_time": f"{busy:.2f}",
            "mean_load": f"{100 * busy / max(seconds, 0.01):.2f}",
        }
        with replacing(path) as temporary:
            temporary.write_text("\t".join(rows) + "\n" + "\t".join(rows.values()) + "\n")


def _used() -> list[Any]:
    import resource  # POSIX only

    return [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]


def _busy() -> float:
    """Seconds of the processors."""
    return sum(one.ru_utime + one.ru_stime for one in _used())
