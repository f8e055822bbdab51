"""The stages of one small experiment, called one after the other in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pflow.config.experiment import ExperimentSettings
from pflow.config.loading import load_configuration
from pflow.pipeline.stages import STAGES
from pflow.stages.check_operator import check_operator
from pflow.stages.finetune import finetune
from pflow.stages.observe import observe
from pflow.stages.pretrain import pretrain
from pflow.stages.sample import sample
from pflow.stages.simulate import simulate
from pflow.stages.spectrum import spectrum
from tests.support.record import RECORD

__all__ = ["StagedExperiment"]

NAME, OBSERVATION = "small", "y1"


class StagedExperiment:
    """Results of the stages of `experiment` in `folder`."""

    def __init__(self, folder: Path, experiment: dict[str, Any]) -> None:
        self.folder = folder
        configuration = load_configuration({"experiments": {NAME: experiment}})
        self.experiment: ExperimentSettings = configuration.experiments[NAME]

    def settings(self, stage: str, **wildcards: Any) -> Any:
        """Of one job."""
        return STAGES[stage].build(self.experiment, NAME, **wildcards)

    def data(self) -> None:
        """Pairs, observation, spectrum of the models if they are images, and the operator's
        cost."""
        for split in ("train", "validation"):
            simulate(
                self.settings("simulate", split=split, shard=0), RECORD, out=self.folder / split
            )
        settings = self.settings("observe", observation=OBSERVATION)
        observe(settings, RECORD, out=self.folder / "y")
        check_operator(self.settings("check_operator"), RECORD, out=self.folder / "operator.json")
        if len(self.experiment.problem.model_shape) == 3:
            spectrum(
                self.settings("spectrum"),
                RECORD,
                train_shards=[self.folder / "train"],
                out=self.folder / "spectrum",
            )

    def pretrain(self, flow: str, out: str) -> Path:
        """Weights of the flow."""
        pretrain(
            self.settings("pretrain", flow=flow),
            RECORD,
            train_shards=[self.folder / "train"],
            validation_shards=[self.folder / "validation"],
            out=self.folder / out / flow,
            checkpoint=self.folder / out / f"{flow}.state",
        )
        return self.folder / out / flow / "flow.safetensors"

    def finetune(
        self, method: str, out: str, pretrained: Path | None, prior: Path | None = None
    ) -> Path:
        """Weights of the method."""
        finetune(
            self.settings("finetune", observation=OBSERVATION, method=method, seed="0"),
            RECORD,
            observation=self.folder / "y",
            pretrained=pretrained,
            operator=self.folder / "operator.json",
            out=self.folder / out / method,
            checkpoint=self.folder / out / f"{method}.state" / "state",
            prior=prior,
        )
        return self.folder / out / method / "flow.safetensors"

    def sample(self, method: str, out: str, flow: Path, prior: Path | None = None) -> Path:
        """Store of the posterior."""
        store = self.folder / out / method / "posterior.zarr"
        sample(
            self.settings("sample", observation=OBSERVATION, method=method, seed="0"),
            RECORD,
            flow=flow,
            observation=self.folder / "y",
            out=store,
            prior=prior,
        )
        return store
