"""What invalidates a job: the text of its settings and the fingerprint of its code, as its rule
passes them to it.

Imports neither torch nor matplotlib, because the Snakefile reads it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pflow.config.experiment import Configuration
from pflow.pipeline.inputs import JobInputs
from pflow.pipeline.long_arguments import files_argument, settings_argument
from pflow.pipeline.stages import settings_for
from pflow.provenance.planned import planned_code

__all__ = ["JobTexts"]


class JobTexts(JobInputs):
    """Settings and code of every job.

    Arguments:
        configuration: the whole configuration, or as much of it as the jobs depend on.
    """

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        # Asked for by the comparison of results, by the rules and by Snakemake.
        self._text = cache(self._settings_text)
        self._code = cache(self._code_text)

    def settings(self, stage: str) -> Callable[[Any], str]:
        """The settings of a job as its command takes them, as a function of its wildcards."""
        return lambda wildcards: settings_argument(self.text(stage, wildcards), self.layout.results)

    def text(self, stage: str, wildcards: Any) -> str:
        """The settings of a job themselves, however long they are."""
        return self._text(stage, tuple(wildcards.items()))

    def listed(self, name: str) -> Callable[..., list[str]]:
        """The inputs `name` of a job as its command takes them."""
        return lambda wildcards, input: files_argument(input[name], self.layout.results)

    def code(self, stage: str) -> Callable[[Any], str]:
        """Fingerprint of the code that a job can reach, as a function of its wildcards."""
        return lambda wildcards: self._code(stage, tuple(wildcards.items()))

    def _settings_text(self, stage: str, wildcards: tuple[tuple[str, str], ...]) -> str:
        return settings_for(self.configuration, stage, **dict(wildcards))

    def _code_text(self, stage: str, wildcards: tuple[tuple[str, str], ...]) -> str:
        kept = self._kept_code(**dict(wildcards)) if stage == "pretrain" else None
        return f"code-{kept or planned_code(stage, self._text(stage, wildcards))}"

    def _kept_code(self, experiment: str, flow: str) -> str | None:
        """The code that made a pretrained flow with `track_code: false`, so that no change of code
        reruns it.
        """
        if self.experiment(experiment).flows[flow].pretrain.track_code:
            return None
        return _recorded_code(self.layout.experiment(experiment).pretrained(flow).about)


def _recorded_code(about: Path) -> str | None:
    try:
        return json.loads(about.read_text(encoding="utf-8"))["code_fingerprint"]
    except (OSError, ValueError, KeyError):
        return None
