"""Methods of fine-tuning: the entries of `finetune:`, one class for each objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Union

from pflow.config.decoding import TaggedUnion, setting
from pflow.config.priors import PriorSettings

__all__ = [
    "AutoSettings",
    "FinetuningSettings",
    "ImportanceSettings",
    "LatentGaussianSettings",
    "MethodSettings",
    "NoFinetuningSettings",
    "ReverseKLSettings",
    "ScoreReplaySettings",
    "SurrogateSettings",
]

Schedule = Literal["exponential", "cosine"]
SOURCES = (
    "Random sources (shots) that a point sees, for an operator that has several; such a point costs"
    " `sources` / all of an evaluation (0: all)."
)
CORRECT = (
    "At the end, a dense Gaussian of the latent that explains the scores of all evaluations best"
    " (up to 6000 unknowns): correlations that the flow cannot express, and so honest deviations."
    " Wants more evaluations than unknowns."
)
ONLY = "Observations on which the method runs, names or patterns such as `survey-*`; absent: all."
EXCEPT = "Observations on which it does not run, likewise."
SEEDS = "Seeds of this method; absent: the experiment's."
SHIFT = (
    "Stop when more evaluations, however many, are predicted to move the posterior mean by at most"
    " this many posterior standard deviations (`surrogate`; the last three rounds must agree)."
)
MEMORY = (
    "GB of memory that the model of F may take. Where data and parameters need more, `auto` takes"
    " `score_replay`, and `surrogate` stops with a message."
)
PRIOR = "Prior of this method's posterior; absent: the experiment's."


@dataclass(frozen=True, kw_only=True)
class NoFinetuningSettings(TaggedUnion):
    """The amortised posterior: the pretrained flow as it is, at y_obs."""

    tag_key: ClassVar[str] = "objective"
    tag_value: ClassVar[str] = "none"
    flow: str = setting("Which entry of `flows`.")
    start: Literal["pretrained"] = setting("There is nothing else to start from.", "pretrained")
    prior: PriorSettings | None = setting(PRIOR, None)
    label: str = setting("Name on figures and tables; empty: the method's own name.", "")
    only: list[str] | None = setting(ONLY, None, omit_default=True)
    except_: list[str] | None = setting(EXCEPT, None, omit_default=True)
    seeds: list[int] | None = setting(SEEDS, None, omit_default=True)


@dataclass(frozen=True, kw_only=True)
class FinetuningSettings(TaggedUnion):
    """What all objectives share: where to start, and when to stop (at the first of budget and
    targets).
    """

    tag_key: ClassVar[str] = "objective"
    flow: str = setting("Which entry of `flows`.")
    start: Literal["pretrained", "random"] = setting(
        "Weights at the start: preconditioned, or from scratch."
    )
    evaluations: int = setting("Evaluations of the expensive operator, at most.", minimum=1)
    prior: PriorSettings | None = setting(PRIOR, None)
    target_ess_fraction: float | None = setting(
        "Stop when the effective sample size fraction of the newest draws is at least this.",
        None,
        above=0,
        below=1,
    )
    target_score_error: float | None = setting(
        "Stop when the score error of the newest draws, per unknown and in the metric of the flow,"
        " is at most this.",
        None,
        above=0,
    )
    target_elbo_change: float | None = setting(
        "Stop when the ELBO of the newest draws changes by at most this many nats.", None, above=0
    )
    label: str = setting("Name on figures and tables; empty: the method's own name.", "")
    only: list[str] | None = setting(ONLY, None, omit_default=True)
    except_: list[str] | None = setting(EXCEPT, None, omit_default=True)
    seeds: list[int] | None = setting(SEEDS, None, omit_default=True)


@dataclass(frozen=True, kw_only=True)
class ReverseKLSettings(FinetuningSettings):
    """Minimise KL(q(. given y_obs) || posterior) with fresh draws of q in every step."""

    tag_value: ClassVar[str] = "reverse_kl"
    gradient: Literal["path", "total"] = setting(
        "`path`: sticking the landing; `total`: the paper's.", "path"
    )
    anneal: float = setting(
        "Part of the budget over which the likelihood is raised from a hundredth of its weight to"
        " all of it (0: none).",
        0.0,
        minimum=0,
        maximum=1,
    )
    batch: int = setting("Draws, and so evaluations, in a step.", 64, minimum=1)
    learning_rate: float = setting("Adam's step size.", 1e-3, above=0)
    warmup: int = setting(
        "Steps over which the step size grows linearly from zero; protects a good start.",
        20,
        minimum=0,
    )
    schedule: Schedule = setting(
        "`exponential`: times `decay` every `decay_steps`; `cosine`: to zero at the end of the"
        " budget.",
        "cosine",
    )
    decay: float = setting("Factor of the exponential schedule.", 0.9, above=0, maximum=1)
    decay_steps: int = setting(
        "Steps between two decays of the exponential schedule.", 16, minimum=1
    )
    clip: float = setting("Largest gradient norm; larger gradients are scaled down.", 10.0, above=0)
    sources: int = setting(SOURCES, 0, minimum=0)
    correct_latent: bool = setting(
        f"{CORRECT} A quarter of them are then draws of the finished flow.", False
    )
    keep: Literal["best", "last"] = setting(
        "Weights at the end: `best` goes back where the newest draws had a clearly lower ELBO than"
        " earlier ones; `last`: the paper's.",
        "best",
    )


@dataclass(frozen=True, kw_only=True)
class SurrogateSettings(FinetuningSettings):
    """Learn a model of F on top of the low-fidelity F from few evaluations; the posterior of that
    model trains the flow, without evaluations. Up to 4096 parameters. Where F has no gradient,
    values alone.
    """

    tag_value: ClassVar[str] = "surrogate"
    low_fidelity: bool = setting(
        "Whether the low-fidelity operator is part of the model of F; false: evaluations alone.",
        True,
    )
    target_shift: float | None = setting(SHIFT, None, above=0)
    memory_gb: float = setting(MEMORY, 16.0, above=0)
    steps: int | None = setting(
        "Operator-free training steps of the flow where F is linear and x an image, at most;"
        " absent: until the ELBO no longer grows.",
        None,
        minimum=1,
    )


@dataclass(frozen=True, kw_only=True)
class ScoreReplaySettings(FinetuningSettings):
    """Evaluate each point once, keep it, and learn from all of them many times."""

    tag_value: ClassVar[str] = "score_replay"
    draw: int | None = setting(
        "Points evaluated in a round; absent: 16 at first, and a quarter of those known later.",
        None,
        minimum=1,
    )
    inner: int = setting("Operator-free steps in a round, at most.", 200, minimum=1)
    batch: int = setting("Points in an operator-free step.", 64, minimum=1)
    sources: int = setting(SOURCES, 0, minimum=0)
    reuse: str = setting(
        "A method whose evaluations, at the same observation and seed, are known from the start"
        " (empty: none).",
        "",
    )
    correct_latent: bool | None = setting(
        f"{CORRECT} Absent: with more than 512 unknowns and at least as many evaluations.", None
    )
    finish: float = setting(
        "Part of the budget kept for path gradients at the end (the hybrid; 0: none).",
        0.0,
        minimum=0,
        below=1,
    )


@dataclass(frozen=True, kw_only=True)
class LatentGaussianSettings(FinetuningSettings):
    """Freeze the flow and learn a Gaussian of its latent (Siahkoohi et al. 2023, arXiv
    2207.11640).
    """

    tag_value: ClassVar[str] = "latent"
    fit: Literal["match_scores", "reverse_kl"] = setting(
        "`match_scores`: closed form, dense covariance (arXiv 2402.14758); `reverse_kl`: path"
        " gradients.",
        "match_scores",
    )
    covariance: Literal["diagonal", "low_rank", "dense"] = setting(
        "Covariance of the latent; `match_scores` needs dense.", "dense"
    )
    rank: int = setting("Directions of a low-rank covariance, besides the diagonal.", 8, minimum=1)
    batch: int = setting("Draws, and so evaluations, in a step.", 32, minimum=1)
    learning_rate: float = setting("Adam's step size, for reverse_kl.", 1e-2, above=0)
    warmup: int = setting("Steps over which the step size grows linearly from zero.", 5, minimum=0)


@dataclass(frozen=True, kw_only=True)
class ImportanceSettings(FinetuningSettings):
    """For operators without a gradient: forward KL over importance-weighted points, values
    alone.
    """

    tag_value: ClassVar[str] = "importance"
    draw: int = setting("Points evaluated in a round.", 128, minimum=8)
    inner: int = setting("Operator-free steps in a round.", 100, minimum=1)
    batch: int = setting("Points in an operator-free step.", 128, minimum=1)
    learning_rate: float = setting("Adam's step size.", 1e-3, above=0)


@dataclass(frozen=True, kw_only=True)
class AutoSettings(FinetuningSettings):
    """Chosen by operator.json: `surrogate` (`score_replay` beyond 4096 parameters, with random
    `sources`, or where the model of F needs more than `memory_gb`); path gradients where F is so
    cheap that they are faster and the budget is at least 2000 evaluations; `importance` instead of
    `score_replay` where F has no gradient.
    """

    tag_value: ClassVar[str] = "auto"
    sources: int = setting(SOURCES, 0, minimum=0)
    target_shift: float | None = setting(SHIFT, None, above=0)
    memory_gb: float = setting(MEMORY, 16.0, above=0)


MethodSettings = Union[
    NoFinetuningSettings,
    ReverseKLSettings,
    SurrogateSettings,
    ScoreReplaySettings,
    LatentGaussianSettings,
    ImportanceSettings,
    AutoSettings,
]
