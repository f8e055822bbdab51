"""A pretrained flow as one folder to share: its weights, and a card that says what it was trained
on.

    flow.safetensors, flow.json, history.csv    weights, architecture and provenance, loss
    calibration.json, calibration.zarr          numbers and ranks over held-out pairs
    card.json                                   shapes, units, ranges of the training data, settings
    example.npz                                 pairs that the problem simulates with a known seed
    README.md                                   the card for people
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pflow import __version__
from pflow.errors import PflowError
from pflow.execution.seeds import generator_for
from pflow.problems.base import Problem
from pflow.provenance.record import software
from pflow.storage.atomic import replacing
from pflow.storage.layout import PretrainedFolder
from pflow.storage.origins import Origin, file_hash, read_origin, write_origin
from pflow.storage.text_files import read_json, write_json

__all__ = ["Card", "is_carded", "write_card"]

FORMAT = 1
CARD, EXAMPLE, README = "card.json", "example.npz", "README.md"
PAIRS = 4  # that the problem has to simulate alike
TOLERANCE = 1e-4  # relative to the largest value
LISTED = 1000  # numbers of a range that the card holds; of larger data the range over all of them
FACTS = ("model_shape", "data_shape", "parameter_names", "model_unit", "data_unit")


class Card:
    """What a pretrained flow was trained on.

    Arguments:
        folder: of the flow, with its card.

    Raises:
        PflowError: there is no card, or the weights are not those that it describes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.flow = folder, PretrainedFolder(folder)
        if not (folder / CARD).is_file():
            raise PflowError(
                f"{folder} holds no {CARD}: name a folder that Amortized.save wrote, or make one"
                " with pflow.pretrain(problem)"
            )
        self.content = read_json(folder / CARD, "format", "name", "weights", "experiment", *FACTS)
        if self.content["format"] > FORMAT:
            raise PflowError(
                f"{folder / CARD} was written by a later version of pflow"
                f" ({self.content.get('software', {}).get('pflow', '?')}): update pflow"
            )
        weights = self.flow.weights
        if not weights.is_file() or file_hash(weights) != self.content["weights"]:
            raise PflowError(
                f"{weights} must be the weights that {CARD} describes, and was lost or changed:"
                " copy the whole folder again"
            )

    def experiment(self, problem: Problem) -> dict[str, Any]:
        """The settings that the flow was made with, once the problem is checked."""
        self.check(problem)
        return self.content["experiment"]

    def check(self, problem: Problem, strict: bool = False) -> None:
        """Whether a problem is the one that the flow was trained on. Another prior, operator or
        noise may be meant, as a start for fine-tuning: this is a warning, unless `strict`.

        Raises:
            PflowError: its shapes, names or units differ.
        """
        for fact, value in facts_of(problem).items():
            if self.content[fact] != value:
                raise PflowError(
                    f"`{fact}` of the problem (={_short(value)}) must be that of the pretrained"
                    f" flow in {self.folder} (={_short(self.content[fact])}): use the flow of this"
                    " problem, or pretrain one"
                )
        difference = self._difference(problem)
        if difference and strict:
            raise PflowError(
                f"{difference} than the flow in {self.folder} was trained on, so that its posterior"
                " is another problem's: pretrain one, or fine-tune it: pflow.infer(problem, y,"
                " amortized=...)"
            )
        if difference:
            warnings.warn(
                f"{difference} than the pretrained flow was trained on: it is used as a start only",
                stacklevel=4,
            )

    def check_range(self, y: np.ndarray) -> None:
        """Warn where data lie outside of all training data."""
        low, high = (np.asarray(self.content["training"]["y"][name]) for name in ("low", "high"))
        outside = (y.reshape(-1) < low) | (y.reshape(-1) > high)
        if outside.any():
            warnings.warn(
                f"{outside.sum()} of {outside.size} data lie outside of the range of the training"
                " data, where a pretrained flow knows nothing: fine-tune it, and read the verdict",
                stacklevel=3,
            )

    def place(self, target: Path, name: str, replace: bool) -> None:
        """Copy the flow into an experiment; its calibration is that of the problem there, and is
        made anew.

        Raises:
            PflowError: another flow lies there.
        """
        there = PretrainedFolder(target).weights
        if there.is_file():
            if file_hash(there) == self.content["weights"]:
                return
            if not replace:
                raise PflowError(
                    f"{target} holds another flow than {self.folder}: give these results another"
                    " `name`; or replace=True takes this one"
                )
        self.copy(target, without=("calibration.*", ".calibration.*"))
        origin = read_origin(there)
        if origin is not None:
            settings = {**json.loads(origin.settings), "experiment": name}
            text = json.dumps(settings, sort_keys=True)
            write_origin(
                there, Origin(origin.stage, text, origin.code, origin.inputs, origin.outputs)
            )

    def copy(self, target: Path, without: Sequence[str] = ()) -> None:
        """Copy the folder, but for files that match the patterns."""
        ignore = shutil.ignore_patterns(".*.lock", ".*.partial", *without)
        with replacing(target) as temporary:
            shutil.copytree(self.folder, temporary, ignore=ignore)

    def _difference(self, problem: Problem) -> str:
        """How the pairs that the problem simulates differ from those of the card; "" if they do
        not.
        """
        x, y = simulated(problem)
        try:
            with np.load(self.folder / EXAMPLE, allow_pickle=False) as kept:
                found = {"x": kept["x"], "y": kept["y"]}
        except (OSError, ValueError, KeyError):
            return ""
        if not _alike(x, found["x"]):
            return "the prior draws other models"
        if not _alike(y, found["y"]):
            return "the low-fidelity operator or the noise gives other data"
        return ""


def write_card(
    flow: PretrainedFolder,
    name: str,
    experiment: dict[str, Any],
    problem: Problem,
    x: np.ndarray,
    y: np.ndarray,
) -> None:
    """Write the card of a pretrained flow into its folder.

    Arguments:
        flow: its folder.
        name: of the problem.
        experiment: settings of its experiment.
        problem: what it was trained on.
        x: training models, (pairs, *model).
        y: training data, (pairs, *data).
    """
    calibration = read_json(flow.calibration)
    numbers = ("pairs", "sbc_p_value", "tarp_p_value", "coverage_50", "coverage_90", "coverage_95")
    kept = ("simulate", "flows", "calibrate")
    content = {
        "format": FORMAT,
        "name": name,
        **facts_of(problem),
        "noise_std": problem.noise_std,
        "training": {"pairs": len(x), "x": _range(x), "y": _range(y)},
        "calibration": {key: calibration[key] for key in numbers if key in calibration},
        "experiment": {key: experiment[key] for key in kept if key in experiment},
        "weights": file_hash(flow.weights),
        "software": {"pflow": __version__, **software()},
    }
    path = flow.folder / CARD
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) == content:
        return
    first_x, first_y = simulated(problem)
    with replacing(flow.folder / EXAMPLE) as temporary, temporary.open("wb") as stream:
        np.savez(stream, x=first_x, y=first_y)
    with replacing(flow.folder / README) as temporary:
        temporary.write_text(_readme(content), encoding="utf-8")
    write_json(path, content)


def is_carded(folder: Path) -> bool:
    """Whether a flow has a card, and so is never trained again by itself."""
    return (folder / CARD).is_file()


def facts_of(problem: Problem) -> dict[str, Any]:
    """What has to agree exactly."""
    plain = {fact: getattr(problem, fact) for fact in FACTS}
    return {fact: list(v) if isinstance(v, tuple) else v for fact, v in plain.items()}


@torch.no_grad()
def simulated(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a known seed, of the low-fidelity operator."""
    x, y = problem.simulate(PAIRS, generator_for(0, "card"), dtype=torch.float64)
    return x.numpy(), y.numpy()


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    scale = np.abs(b).max(initial=0.0)
    return a.shape == b.shape and bool(
        np.allclose(a, b, rtol=0, atol=TOLERANCE * scale, equal_nan=True)
    )


def _range(values: np.ndarray) -> dict[str, Any]:
    flat = values.reshape(len(values), -1)
    flat = flat if flat.shape[1] <= LISTED else flat.reshape(-1, 1)
    numbers = {"low": flat.min(0), "high": flat.max(0), "mean": flat.mean(0), "std": flat.std(0)}
    return {key: [float(f"{v:.6g}") for v in value] for key, value in numbers.items()}


def _readme(card: dict[str, Any]) -> str:
    training, calibration = card["training"], card["calibration"]
    noise = "as the problem says" if card["noise_std"] is None else f"{card['noise_std']:g}"
    lines = [
        f"# A pretrained flow: {card['name']}",
        "",
        f"It gives the posterior of models x of shape {card['model_shape']} (unit"
        f" {card['model_unit']}) from data y of shape {card['data_shape']} (unit"
        f" {card['data_unit']}), for any y like the {training['pairs']} low-fidelity pairs that it"
        " was trained on.",
        "",
        "| | lowest | highest |",
        "|---|---|---|",
        *(f"| {key} | {min(r['low']):g} | {max(r['high']):g} |" for key, r in _ranges(training)),
        "",
        f"Standard deviation of the noise: {noise}. Calibration over {calibration.get('pairs')}"
        f" held-out pairs: SBC p {calibration.get('sbc_p_value', float('nan')):.2g}, 90 % coverage"
        f" {calibration.get('coverage_90', float('nan')):.3f}.",
        "",
        "    import pflow",
        "    amortized = pflow.load_amortized('THIS FOLDER', problem)",
        "    draws = amortized.sample(y, 1000)",
        "",
        "Made with " + ", ".join(f"{key} {value}" for key, value in card["software"].items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def _ranges(training: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(key, training[key]) for key in ("x", "y")]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
