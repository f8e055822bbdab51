"""Settings of problems that do not come with pflow: a user's class in a file of their own, and
pairs without any operator.

A user's settings are the arguments of their class, read from its source (`pflow.config.signature`);
the content of a `Path` among them counts like code.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pflow.config.decoding import TaggedUnion, setting
from pflow.config.signature import fields_of, given_arguments
from pflow.errors import PflowError
from pflow.provenance.user_code import require_definition, user_code_fingerprint

__all__ = ["PairsOnlyProblemSettings", "UserProblemSettings"]

RESERVED = ("module", "name", "code")


@dataclass(frozen=True, kw_only=True)
class UserProblemSettings(TaggedUnion):
    """A problem of your own: a class (or a function that returns a problem) in a Python file
    outside pflow, with its arguments as settings.
    """

    user_key: ClassVar[str] = "module"
    model_shape: ClassVar[None] = None  # known after the class is imported, in the jobs
    module: Path = setting("The Python file; the path starts in the folder where you run pflow.")
    name: str = setting("The class, a subclass of pflow.problems.Problem, or the function.")
    code: str = setting("Fingerprint of the code and of the files it names; pflow fills it in.", "")

    def __post_init__(self) -> None:
        arguments = [f.name for f in dataclasses.fields(self) if f.name not in RESERVED]
        values = (getattr(self, name) for name in arguments)
        files = tuple(value for value in values if isinstance(value, Path))
        code = user_code_fingerprint(self.module, files)
        if self.code and self.code.partition("-")[0] != code.partition("-")[0]:
            raise PflowError(
                f"{self.module}, or a file that it uses, was changed after this job was planned"
                f" (code {self.code}, now {code}): run snakemake again"
            )
        object.__setattr__(self, "code", self.code or code)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the class."""
        return given_arguments(self, besides=RESERVED)

    @classmethod
    def kind_for(cls, data: dict[str, Any], where: str) -> type:
        """This class with the arguments of the user's class as further fields."""
        path, name = data["module"], data.get("name")
        if not isinstance(path, str) or not isinstance(name, str):
            return cls  # decoding reports the error
        if not Path(path).is_file():
            raise PflowError(
                f"`{where}.module` (={path!r}) is not there: {Path(path).absolute()} (paths start"
                " in the folder where you run pflow)"
            )
        definition = require_definition(Path(path), name, f"{where}.name")
        fields = fields_of(definition, reserved=RESERVED)
        return dataclasses.make_dataclass(name, fields, bases=(cls,), frozen=True, kw_only=True)


@dataclass(frozen=True)
class PairsOnlyProblemSettings(TaggedUnion):
    """No operator is known, only pairs (x, y): amortised posteriors, without weights. What an
    experiment with `pairs` and without `problem` has.
    """

    tag_value: ClassVar[str] = "pairs_only"
    model_shape: list[int] | None = setting("Shape of one x; absent: that of the file.", None)
    data_shape: list[int] | None = setting("Shape of one y; absent: that of the file.", None)
    parameter_names: list[str] | None = setting(
        "A label for each element of x; absent: x1, x2, ...", None
    )
    model_unit: str = setting("Unit of x, for figures and stores.", "1")
    data_unit: str = setting("Unit of y.", "1")
