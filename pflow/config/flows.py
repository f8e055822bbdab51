"""Settings of the flows and of their pretraining. One class an architecture; `Flow` is any of
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Union

from pflow.config.decoding import TaggedUnion, setting

__all__ = [
    "ConditionalHintFlowSettings",
    "CouplingFlowSettings",
    "FlowSettings",
    "PretrainSettings",
]

MEMORY = (
    "Images only: what is stored for the backward pass. `store` (the default): all; `checkpoint`:"
    " the state before each block, which is computed again; `invert`: the result alone, from which"
    " every block is computed back."
)
TRANSFORM = (
    "Vectors only: what the flow sees of the data. `standardise`: each datum less its mean, over"
    " its standard deviation; `log`: the same of its logarithm, for positive data over orders of"
    " magnitude. The likelihood always sees the data themselves."
)
START = (
    "Another flow of the same architecture, whose pretrained weights this one starts from; empty:"
    " random weights."
)
PAIRS = (
    "Pairs that it learns from: `low_fidelity` ones, of `simulate` or `pairs`; or those of"
    " `high_fidelity_pairs`, on whose held-out part all flows are then calibrated."
)
PRECISION = (
    "Images only: of the networks inside the couplings (float32 by default); couplings and"
    " log-determinants stay in float32."
)


@dataclass(frozen=True)
class PretrainSettings:
    """Stage 1: maximise E[log q(x given y)] over the low-fidelity pairs."""

    epochs: int = setting("Passes over the training pairs, at most.", 25, minimum=1)
    batch: int = setting("Pairs in a step.", 64, minimum=1)
    learning_rate: float = setting("Adam's step size at the start.", 1e-3, above=0)
    warmup: int = setting("Steps over which the step size grows linearly from zero.", 0, minimum=0)
    schedule: Literal["exponential", "cosine"] = setting(
        "`exponential`: times `decay` after each epoch; `cosine`: to zero at the last epoch.",
        "cosine",
    )
    decay: float = setting("Factor of the exponential schedule.", 0.9, above=0, maximum=1)
    patience: int = setting(
        "Stop after this many epochs without a better validation loss (0: never); the weights of"
        " the best epoch are kept either way.",
        10,
        minimum=0,
    )
    clip: float = setting("Largest gradient norm; larger gradients are scaled down.", 10.0, above=0)
    seed: int = setting("Seed of the weights and of the order of the pairs.", 0, minimum=0)
    memory_mb: int = setting(
        "Largest part of the training pairs held in memory, in MB; more are streamed from the"
        " shards.",
        1000,
        minimum=1,
    )
    devices: int = setting(
        "Processes on each node (one GPU each, with `device: cuda`) that share every batch; changes"
        " rounding, reruns nothing.",
        1,
        minimum=1,
    )
    nodes: int = setting(
        "Nodes of a SLURM cluster, each with `devices` processes, that share every batch; without"
        " SLURM they all run on this machine.",
        1,
        minimum=1,
    )
    track_code: bool = setting(
        "Whether an edit of pflow's code reruns this pretraining; the report says when it does"
        " not.",
        True,
    )


@dataclass(frozen=True)
class CouplingFlowSettings(TaggedUnion):
    """Conditional affine couplings whose conditioners see (x_a, y); convolutional ones on wavelet
    levels for images.
    """

    tag_value: ClassVar[str] = "coupling"
    depth: int = setting("Coupling blocks; for images, in each level.", 8, minimum=1)
    hidden: int = setting(
        "Width of the conditioners; for images, channels of their convolutions.", 64, minimum=1
    )
    mixing: Literal["permutation", "orthogonal"] | None = setting(
        "What mixes the parameters (for images, the channels) between blocks; by default"
        " `permutation` for vectors and `orthogonal` for images.",
        None,
    )
    actnorm: bool = setting("Normalise activations before each block.", True)
    compile: bool | None = setting(
        "Vectors only: one compiled program of density and gradient, made at the first step, which"
        " takes a minute or more and a C++ compiler.",
        None,
    )
    levels: int | None = setting(
        "Images only: Haar transforms, each of which halves height and width (3 by default).",
        None,
        minimum=1,
    )
    multiscale: bool | None = setting(
        "Images only: whether half of the channels leaves the flow after each level: cheaper, and"
        " less accurate (false by default).",
        None,
    )
    kernel: int | None = setting(
        "Images only: width of the first and last convolution of a conditioner, odd (3 by"
        " default).",
        None,
        minimum=1,
    )
    inner_kernel: int | None = setting(
        "Images only: width of the convolution between them, odd (1 by default).", None, minimum=1
    )
    memory: Literal["store", "checkpoint", "invert"] | None = setting(MEMORY, None)
    precision: Literal["float32", "bfloat16"] | None = setting(PRECISION, None)
    conditional: bool = setting(
        "Whether the flow is conditioned on the data; false for a density of the models alone, for"
        " a `prior`.",
        True,
    )
    data_transform: Literal["standardise", "log"] = setting(
        TRANSFORM, "standardise", omit_default=True
    )
    start: str = setting(START, "", omit_default=True)
    pairs: Literal["low_fidelity", "high_fidelity"] = setting(
        PAIRS, "low_fidelity", omit_default=True
    )
    pretrain: PretrainSettings = setting("Stage 1 of this flow.", factory=PretrainSettings)


@dataclass(frozen=True)
class ConditionalHintFlowSettings(TaggedUnion):
    """The paper's conditional HINT over (y, x), as its released code builds it."""

    tag_value: ClassVar[str] = "chint"
    depth: int = setting("Conditional HINT layers.", 8, minimum=1)
    hidden: int = setting("Width of the residual blocks.", 64, minimum=1)
    memory: Literal["store", "checkpoint", "invert"] | None = setting(MEMORY, None)
    data_transform: Literal["standardise", "log"] = setting(
        TRANSFORM, "standardise", omit_default=True
    )
    start: str = setting(START, "", omit_default=True)
    pairs: Literal["low_fidelity", "high_fidelity"] = setting(
        PAIRS, "low_fidelity", omit_default=True
    )
    pretrain: PretrainSettings = setting("Stage 1 of this flow.", factory=PretrainSettings)


FlowSettings = Union[CouplingFlowSettings, ConditionalHintFlowSettings]
