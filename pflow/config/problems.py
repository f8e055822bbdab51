"""Settings of the problems: prior, operators and noise.

A problem that comes with pflow declares its settings once, in the signature and the docstring of
its class. They are read from the source (`pflow.config.signature`), so that the configuration can
be checked without torch. So is `model_shape_of`, the shape of one x.
"""

from __future__ import annotations

import ast
import dataclasses
from types import CodeType
from typing import TYPE_CHECKING, Any, ClassVar, Union

from pflow.config.decoding import TaggedUnion
from pflow.config.session_problem import SessionProblemSettings
from pflow.config.signature import fields_of, given_arguments, lineage
from pflow.config.umbridge import UMBridgeProblemSettings
from pflow.config.user_problems import PairsOnlyProblemSettings, UserProblemSettings
from pflow.provenance.modules import module_path
from pflow.provenance.user_code import Definition, find_definition, parse

__all__ = ["BuiltInProblemSettings", "ProblemSettings", "has_operator", "problem_settings"]


@dataclasses.dataclass(frozen=True)
class BuiltInProblemSettings(TaggedUnion):
    """A problem that comes with pflow; one subclass each, with its arguments as fields."""

    shape_rule: ClassVar[CodeType]  # what `model_shape_of` of the problem's class returns

    @property
    def model_shape(self) -> tuple[int, ...]:
        """The shape of one x."""
        return eval(self.shape_rule, {"__builtins__": {}}, self.settings)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the class."""
        return given_arguments(self)


def _read_built_in() -> dict[str, type[BuiltInProblemSettings]]:
    """The settings class of each problem in `BUILT_IN` of the module `pflow.problems`."""
    package = module_path("pflow.problems")
    assert package is not None, "it is a part of pflow"
    (registry,) = (
        node.value
        for node in parse(package).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "BUILT_IN"
    )
    assert isinstance(registry, ast.Tuple), "`BUILT_IN` names its classes"
    classes = {}
    for element in registry.elts:
        definition = find_definition(package, ast.unparse(element))
        assert definition is not None, "`pflow.problems` imports it"
        settings = _settings_class(definition)
        classes[settings.tag_value] = settings
    return classes


def _settings_class(definition: Definition) -> type[BuiltInProblemSettings]:
    return dataclasses.make_dataclass(
        f"{definition.node.name}ProblemSettings",
        fields_of(definition),
        bases=(BuiltInProblemSettings,),
        namespace={
            "__doc__": ast.get_docstring(definition.node),
            "__module__": __name__,
            "tag_value": _name(definition),
            "shape_rule": _shape_rule(definition),
        },
        frozen=True,
        kw_only=True,
    )


def _name(definition: Definition) -> str:
    """The problem's name, as its class states it: `name = "gaussian"`."""
    (name,) = (
        ast.literal_eval(node.value)
        for node in definition.node.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "name"
    )
    return name


def _shape_rule(definition: Definition) -> CodeType:
    """The expression that `model_shape_of` returns, of the class or of one that it inherits
    from.
    """
    for node, path in lineage(definition):
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name == "model_shape_of":
                last = method.body[-1]
                if isinstance(last, ast.Return) and last.value is not None:
                    return compile(ast.Expression(last.value), str(path), "eval")
    raise TypeError(
        f"{definition.path}: `{definition.node.name}` must have a static method `model_shape_of`"
        " that returns the shape of one x, an expression of its settings"
    )


_BUILT_IN = _read_built_in()

if TYPE_CHECKING:
    ProblemSettings = (
        BuiltInProblemSettings
        | UserProblemSettings
        | UMBridgeProblemSettings
        | SessionProblemSettings
        | PairsOnlyProblemSettings
    )
else:
    ProblemSettings = Union[
        *_BUILT_IN.values(),
        UserProblemSettings,
        UMBridgeProblemSettings,
        SessionProblemSettings,
        PairsOnlyProblemSettings,
    ]


def problem_settings(name: str, **settings: Any) -> BuiltInProblemSettings:
    """Settings of the problem `name` that comes with pflow; those not given have their default."""
    return _BUILT_IN[name](**settings)


def has_operator(problem: ProblemSettings) -> bool:
    """Whether there is an operator F to evaluate; pairs alone have none."""
    return not isinstance(problem, PairsOnlyProblemSettings)
