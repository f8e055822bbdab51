"""A batch, run from its command line: some stages of several observations, each as its rule would
run it by itself.

An observation that fails is told, and the others go on. What is made and as wanted is left as it
is, so a batch that was stopped, or of which a part is out of date, does the rest.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pflow.config.decoding import decode
from pflow.config.experiment import Configuration
from pflow.config.jobs import BatchJobSettings
from pflow.errors import PflowError
from pflow.execution.deaths import Deaths
from pflow.execution.interruption import Interrupted
from pflow.execution.lock import JobLock
from pflow.execution.log_file import output_to
from pflow.execution.progress import Progress
from pflow.execution.usage import Usage
from pflow.pipeline.batches import RUNS, read_batch
from pflow.pipeline.failures import FAILED
from pflow.pipeline.job_options import command_words, job_options
from pflow.pipeline.job_texts import JobTexts
from pflow.pipeline.long_arguments import settings_text
from pflow.pipeline.planned_jobs import PlannedJob, planned_jobs
from pflow.pipeline.run_stage import stage_run
from pflow.pipeline.stages import STAGES
from pflow.storage.origins import file_hash
from pflow.storage.text_files import write_json

__all__ = ["run_batch"]


def run_batch(options: argparse.Namespace, stopped: Callable[[], bool]) -> None:
    """Run the batch that the command line describes, and write what it has made.

    Arguments:
        options: `settings` (those of a `BatchJobSettings`), `out`, `threads`, `workers` and
            `attempt`.
        stopped: whether a signal asked this process to stop.

    Raises:
        PflowError: an observation has failed, whereas the others are complete. A batch of
            observations or references fails only if all of several do: the runs of the missing ones
            tell it, and those of the others go on.
    """
    settings = decode(BatchJobSettings, json.loads(settings_text(options.settings)), "")
    with JobLock(options.out.with_name(f".{options.out.name}.lock")):
        batch = _RunningBatch(settings, options, stopped)
        hashes, failed = batch.run()
    ends_well = len(failed) < 2 or hashes  # what concerns all is told before anything is trained
    if not failed or (ends_well and tuple(settings.stages) != RUNS):
        content = {
            "observations_per_job": settings.observations_per_job,
            "observations": hashes,
            "failed": failed,
        }
        write_json(options.out, content)
        return
    raise PflowError(
        f"{len(failed)} of {len(hashes) + len(failed)} observations have failed, and the others"
        f" are complete: see the log of {next(iter(failed))}, correct it and run snakemake again"
    )


class _RunningBatch:
    """The jobs of a batch.

    Arguments:
        settings: of the batch.
        options: of its command line.
        stopped: whether a signal asked this process to stop.
    """

    def __init__(
        self,
        settings: BatchJobSettings,
        options: argparse.Namespace,
        stopped: Callable[[], bool],
    ) -> None:
        configuration = Configuration({settings.name: settings.experiment}, settings.results)
        self._texts = JobTexts(configuration)
        self._folder = self._texts.layout.experiment(settings.name)
        self._options, self._stopped = options, stopped
        self._loaded: set[str] = set()
        title = "/".join(filter(None, (settings.name, settings.method, settings.seed)))
        self._progress = Progress(f"{', '.join(settings.stages)} {title}")
        self._jobs: dict[str, list[PlannedJob]] = {}
        wanted = (settings.method, settings.seed)
        for job in planned_jobs(self._texts):
            names = vars(job.wildcards)
            observation = names.get("observation", "")
            if (
                job.stage in settings.stages
                and observation in settings.experiment.observations
                and (names.get("method", ""), names.get("seed", "")) == wanted
            ):
                self._jobs.setdefault(observation, []).append(job)

    def run(self) -> tuple[dict[str, list[str]], dict[str, str]]:
        """Run all jobs.

        Returns:
            the hashes of the main results of each observation that is complete, and why the others
            have failed.
        """
        out = self._options.out
        failed: dict[str, str] = {}
        deaths = Deaths(out.with_name(f".{out.name}.died"))
        for k, observation in enumerate(deaths.last(self._jobs)):
            self._progress.update(k / len(self._jobs), failed=len(failed))
            with deaths.within(observation):
                reason = next(filter(None, map(self._run, self._jobs[observation])), "")
            if reason:
                failed[observation] = reason
                print(f"{FAILED}{reason}", file=sys.stderr, flush=True)
        self._progress.close(f"{len(self._jobs) - len(failed)} of {len(self._jobs)} observations")
        made = {
            observation: [file_hash(job.result) for job in jobs]
            for observation, jobs in self._jobs.items()
            if observation not in failed
        }
        return made, failed

    def _run(self, job: PlannedJob) -> str:
        """Run a job unless it is made; why it has failed, or "" if it has not."""
        if reason := self._why_an_input_is_missing(job):
            return reason
        stage, usage, log = STAGES[job.stage], Usage(of_several=True), Path(job.log)
        options = job_options(self._texts, job, self._texts.threads_of(job.stage, job.wildcards))
        options.attempt = self._options.attempt
        if stage.option == "workers":
            options.workers = self._options.workers
        try:
            run = stage_run(stage, options, self._loaded)
            assert run is not None, "one process does the work"
            if run.is_made():
                return ""
            _delete(run.outputs)
            with output_to(log):
                print(f"$ python -m pflow {shlex.join(command_words(stage, options))}", flush=True)
                with _told():
                    run.run()
                usage.write(Path(job.benchmark))
        except Exception as error:
            if self._stopped():
                raise
            return f"{log}: {_message(error)}"
        return ""

    def _why_an_input_is_missing(self, job: PlannedJob) -> str:
        """Why an observation, or its reference, could not be made in an earlier batch; "" where
        they are there.
        """
        inputs = self._texts.inputs_of(job.stage, job.wildcards)
        for name in ("observation", "reference"):
            for path in inputs.get(name, []):
                if not Path(path).is_file():
                    return self._failures(name).get(job.wildcards.observation, "")
        return ""

    def _failures(self, stage: str) -> dict[str, str]:
        """Why earlier batches could not make observations or references, by observation."""
        folder = self._folder
        batch = folder.reference_batch if stage == "reference" else folder.observation_batch
        files = sorted(batch(0).parent.glob("*.json"))
        return {
            name: why for file in files for name, why in read_batch(file).get("failed", {}).items()
        }


def _delete(files: Iterable[Path]) -> None:
    """Results that are made again, as Snakemake deletes them before the job of a rule: if it fails,
    nobody takes the earlier ones for the new ones.
    """
    for file in files:
        if file.is_file():
            file.unlink()


@contextmanager
def _told() -> Iterator[None]:
    """Context of a log that ends with the error that leaves it."""
    try:
        yield
    except (PflowError, Interrupted) as error:
        kind = "error" if isinstance(error, PflowError) else "interrupted"
        print(f"{kind}: {error}", file=sys.stderr)
        raise
    except Exception:
        traceback.print_exc()
        raise


def _message(error: Exception) -> str:
    kind = "error" if isinstance(error, PflowError) else type(error).__name__
    return f"{kind}: {' '.join(str(error).split())}"
