"""Settings of the figures; part of the configuration, see `pflow.config.experiment`."""

from __future__ import annotations

from dataclasses import dataclass

from pflow.config.decoding import setting

__all__ = ["FiguresSettings"]


@dataclass(frozen=True)
class FiguresSettings:
    """What the report draws of the posterior itself."""

    parameters: list[str] = setting(
        "Names of the parameters with marginals and a pair plot, at most eight (`pflow plot` lists"
        " them); empty: those that the data contract most, or maps where the parameters are a"
        " field.",
        factory=list,
    )
