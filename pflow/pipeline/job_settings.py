"""The settings of each job: the part of the configuration that it depends on, and nothing else.

Each function takes the experiment, its name, and the wildcards of the stage's rule. Settings of the
execution (workers, devices, nodes) are set to their defaults here and reach a job through other
options, so that changing them reruns nothing.
"""

from __future__ import annotations

import dataclasses

from pflow.config.data import PairsSettings
from pflow.config.experiment import (
    Configuration,
    ExperimentSettings,
    ObservationSettings,
    ResourceSettings,
)
from pflow.config.flows import ConditionalHintFlowSettings, CouplingFlowSettings, PretrainSettings
from pflow.config.jobs import (
    CalibrateJobSettings,
    CheckOperatorJobSettings,
    EvaluateJobSettings,
    FiguresJobSettings,
    FinetuneJobSettings,
    ObserveJobSettings,
    PretrainJobSettings,
    ReferenceJobSettings,
    ReportJobSettings,
    SampleJobSettings,
    SimulateJobSettings,
    SpectrumJobSettings,
    Split,
    with_workers,
)
from pflow.config.priors import PriorSettings, ProblemPriorSettings
from pflow.config.runs import is_restricted, seeds_at

__all__ = [
    "calibrate",
    "calibrate_method",
    "check_operator",
    "evaluate",
    "figures",
    "finetune",
    "observe",
    "pretrain",
    "prior_of",
    "reference",
    "replicates",
    "report",
    "sample",
    "shard_count",
    "simulate",
    "spectrum",
    "with_one_worker",
]

REPLICATE = "replicate-"
HIGH = "high_fidelity_"  # begins the names of the splits of existing pairs of high fidelity
FIRST_REPLICATE_SEED = 10**6

# For jobs that do not pretrain. It stays as it is, so that a new default changes none of them.
NOT_READ = PretrainSettings(patience=0)

FlowWithPretraining = CouplingFlowSettings | ConditionalHintFlowSettings


def simulate(
    e: ExperimentSettings, name: str, split: Split, shard: str | int
) -> SimulateJobSettings:
    """One shard of simulated pairs, or of pairs that exist already."""
    source = pairs_of(e, split)
    if source is not None:
        if not split.endswith("train"):
            source = dataclasses.replace(source, shards=1)
        return SimulateJobSettings(e.problem, split, int(shard), 0, source.seed, source)
    total, size, k = getattr(e.simulate, split), e.simulate.shard_size, int(shard)
    return SimulateJobSettings(e.problem, split, k, min(size, total - k * size), e.simulate.seed)


def observe(e: ExperimentSettings, name: str, observation: str) -> ObserveJobSettings:
    """An observation of the configuration, or a replicate for calibration."""
    if observation in e.observations:
        settings = e.observations[observation]
    else:
        replicate = int(observation.removeprefix(REPLICATE))
        settings = ObservationSettings(seed=FIRST_REPLICATE_SEED + replicate)
    return ObserveJobSettings(e.problem, settings)


def check_operator(e: ExperimentSettings, name: str) -> CheckOperatorJobSettings:
    """Tests of the operator of the problem."""
    return CheckOperatorJobSettings(e.problem)


def spectrum(e: ExperimentSettings, name: str) -> SpectrumJobSettings:
    """The average spectrum of the training images."""
    return SpectrumJobSettings(name)


def reference(e: ExperimentSettings, name: str, observation: str) -> ReferenceJobSettings:
    """Draws of the reference posterior."""
    everywhere = dataclasses.replace(e.reference, only=None, except_=None)
    return ReferenceJobSettings(e.problem, everywhere, name, observation)


def pretrain(e: ExperimentSettings, name: str, flow: str) -> PretrainJobSettings:
    """One flow; whether its code is tracked does not change its weights."""
    settings = e.flows[flow]
    plain = dataclasses.replace(settings.pretrain, devices=1, nodes=1, track_code=True)
    return PretrainJobSettings(dataclasses.replace(settings, pretrain=plain), e.device, name, flow)


def finetune(
    e: ExperimentSettings, name: str, observation: str, method: str, seed: str | int
) -> FinetuneJobSettings:
    """One method; settings of the pretraining reach it through the weights alone."""
    entry = e.finetune[method]
    architecture = dataclasses.replace(
        e.flows[entry.flow], pretrain=NOT_READ, start="", pairs="low_fidelity"
    )
    entry = dataclasses.replace(entry, label="", prior=None, only=None, except_=None, seeds=None)
    return FinetuneJobSettings(
        e.problem,
        architecture,
        entry,
        int(seed),
        e.device,
        name,
        observation,
        method,
        prior_of(e, method),
    )


def sample(
    e: ExperimentSettings, name: str, observation: str, method: str, seed: str | int
) -> SampleJobSettings:
    """Draws of one run."""
    return SampleJobSettings(
        e.problem, e.sample, int(seed), e.device, name, observation, method, prior_of(e, method)
    )


def calibrate(e: ExperimentSettings, name: str, flow: str) -> CalibrateJobSettings:
    """Calibration of a pretrained flow; the number of replicates concerns methods alone."""
    plain = dataclasses.replace(e.calibrate, fine_tuned=0)
    return CalibrateJobSettings(e.problem, plain, name, flow)


def calibrate_method(e: ExperimentSettings, name: str, method: str) -> CalibrateJobSettings:
    """Calibration of a method; the number of replicates reaches it as its inputs."""
    return calibrate(e, name, method)


def evaluate(
    e: ExperimentSettings, name: str, observation: str, method: str, seed: str | int
) -> EvaluateJobSettings:
    """Numbers and verdict of one run."""
    fine_tuned = e.finetune[method].tag_value != "none"
    return EvaluateJobSettings(e.problem, e.evaluate, observation, fine_tuned, prior_of(e, method))


def figures(e: ExperimentSettings, name: str) -> FiguresJobSettings:
    """All figures of an experiment."""
    labels = {method: entry.label or method for method, entry in e.finetune.items()}
    observations, runs = list(e.observations), None
    if is_restricted(e):
        runs = {
            observation: {
                method: seeds
                for method in e.finetune
                if (seeds := seeds_at(e, observation, method))
            }
            for observation in e.observations
        }
        observations = [observation for observation in observations if runs[observation]]
    others = [method for method in e.finetune if prior_of(e, method) != e.prior]
    return FiguresJobSettings(
        e.problem,
        name,
        observations,
        labels,
        list(e.flows),
        e.seeds,
        e.figures,
        runs,
        others or None,
    )


def report(configuration: Configuration) -> ReportJobSettings:
    """The whole configuration without the resources of jobs."""
    experiments = {
        name: dataclasses.replace(
            with_one_worker(e),
            resources=ResourceSettings(),
            flows={key: _with_one_device(flow) for key, flow in e.flows.items()},
        )
        for name, e in configuration.experiments.items()
    }
    return ReportJobSettings(experiments)


def shard_count(experiment: ExperimentSettings, split: str) -> int:
    """Number of shards of a split: ceil(pairs / shard_size); for existing pairs, as their settings
    say, and of the training split only.
    """
    source = pairs_of(experiment, split)
    if source is not None:
        return source.shards if split.endswith("train") else 1
    if split.startswith(HIGH) or (split == "high_fidelity" and experiment.pairs is not None):
        return 0
    return -(-getattr(experiment.simulate, split) // experiment.simulate.shard_size)


def pairs_of(experiment: ExperimentSettings, split: str) -> PairsSettings | None:
    """The existing pairs that a split is cut from; None where it is simulated or empty."""
    if split.startswith(HIGH):
        return experiment.high_fidelity_pairs
    return None if split == "high_fidelity" else experiment.pairs


def prior_of(experiment: ExperimentSettings, method: str) -> PriorSettings:
    """The prior of a method's posterior: its own, or the experiment's."""
    return experiment.finetune[method].prior or experiment.prior


def replicates(experiment: ExperimentSettings, method: str) -> list[str]:
    """Names of the observations on which a method is fine-tuned to test the calibration of its
    posteriors.

    They are drawn from the prior of the method; there are none for a prior without draws.
    """
    entry = experiment.finetune[method]
    wanted = entry.tag_value != "none" and isinstance(
        prior_of(experiment, method), ProblemPriorSettings
    )
    return [f"{REPLICATE}{k}" for k in range(experiment.calibrate.fine_tuned if wanted else 0)]


def with_one_worker(e: ExperimentSettings) -> ExperimentSettings:
    """The number of processes that evaluate the operator invalidates nothing."""
    return dataclasses.replace(e, problem=with_workers(e.problem, 1))


def _with_one_device(flow: FlowWithPretraining) -> FlowWithPretraining:
    """The number of processes and nodes of a pretraining invalidates nothing."""
    return dataclasses.replace(
        flow, pretrain=dataclasses.replace(flow.pretrain, devices=1, nodes=1)
    )
