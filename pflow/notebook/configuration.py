"""The configuration of an experiment that `pflow.infer` makes: an ordinary one, in the folder of
its results, that `python -m pflow run` reads as well.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pflow.errors import PflowError
from pflow.storage.atomic import replacing

__all__ = [
    "FLOW",
    "METHOD",
    "configuration_file",
    "default_experiment",
    "merged",
    "read_configuration",
    "write_configuration",
]

FLOW, METHOD = "flow", "auto"
FEW_PARAMETERS = 16  # up to which draws of the prior can find mass that the flow misses
DRAWS = 1000


def configuration_file(folder: Path, name: str) -> Path:
    """Where the configuration of an experiment lies."""
    return folder / name / "configuration.yaml"


def default_experiment(
    entry: Mapping[str, Any], model_shape: tuple[int, ...], evaluations: int
) -> dict[str, Any]:
    """The experiment without observations: a flow, pretraining and draws for models of this shape.

    Arguments:
        entry: of the problem.
        model_shape: the shape of one x.
        evaluations: budget of fine-tuning.
    """
    size, is_image = math.prod(model_shape), len(model_shape) == 3
    flow: dict[str, Any] = {"name": "coupling", "depth": 6, "hidden": 64 if size <= 64 else 128}
    flow["pretrain"] = {"epochs": 12, "learning_rate": 2e-3, "patience": 3}
    if is_image:
        flow |= {"depth": 4, "hidden": 24}
        flow["pretrain"] = {
            "epochs": 3,
            "batch": 32,
            "learning_rate": 3e-3,
            "warmup": 50,
            "clip": 1000,
        }
    return {
        "problem": dict(entry),
        "simulate": {"train": 4000, "validation": 500, "test": 500},
        "reference": {"kind": "none"},
        "flows": {FLOW: flow},
        "finetune": {
            METHOD: {
                "flow": FLOW,
                "start": "pretrained",
                "objective": "auto",
                "evaluations": evaluations,
            }
        },
        "seeds": [0],
        "sample": {
            "draws": DRAWS,
            "score_draws": 64,
            "prior_draws": 500 if size <= FEW_PARAMETERS else 0,
        },
    }


def merged(defaults: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`defaults` with `changes`, mappings within mappings included; an entry with another `name`
    replaces the whole.

    Example:
        >>> merged({"simulate": {"train": 4000, "test": 500}}, {"simulate": {"train": 100}})
        {'simulate': {'train': 100, 'test': 500}}
    """
    result = copy.deepcopy(dict(defaults))
    for key, value in changes.items():
        before = result.get(key)
        if isinstance(before, dict) and isinstance(value, Mapping) and _same_name(before, value):
            result[key] = merged(before, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _same_name(before: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
    return "name" not in change or change["name"] == before.get("name")


def read_configuration(file: Path) -> dict[str, Any]:
    """The configuration in a file; empty if there is none.

    Raises:
        PflowError: it is not one.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise PflowError(f"{file} cannot be read as YAML: correct or delete it") from error
    return content if isinstance(content, dict) else {}


def write_configuration(file: Path, content: Mapping[str, Any]) -> None:
    """Write a configuration, if it differs from what is there.

    Raises:
        PflowError: it holds something that YAML cannot.
    """
    try:
        text = yaml.safe_dump(content, sort_keys=False, width=100)
    except yaml.YAMLError as error:
        raise PflowError(
            f"`settings` must hold numbers, text, lists and mappings alone ({error}): convert"
            " arrays by .tolist()"
        ) from error
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
