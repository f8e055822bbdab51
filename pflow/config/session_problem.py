"""Settings of a problem that lives in one Python process, such as a notebook's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pflow.config.decoding import TaggedUnion, setting

__all__ = ["SessionProblemSettings"]


@dataclass(frozen=True)
class SessionProblemSettings(TaggedUnion):
    """A problem that was handed to `pflow.infer` as an object, and that only its Python process
    knows: written by pflow, not by hand.
    """

    user_key: ClassVar[str] = "session"
    model_shape: ClassVar[None] = None  # the object knows it
    session: str = setting(
        "Name of the problem, fingerprint of its code and data, and of the code of pflow that it"
        " uses."
    )
