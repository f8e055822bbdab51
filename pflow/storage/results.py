"""The result files of a job, the main one first, from the path that its command is given."""

from __future__ import annotations

from pathlib import Path

from pflow.storage.layout import FIGURE_INDEX, FlowFolder, PretrainedFolder, root_file, whole

__all__ = [
    "calibration_results",
    "figure_results",
    "flow_results",
    "one_file",
    "store_results",
]


def one_file(out: Path) -> list[Path]:
    """The result of a job that writes a file."""
    return [out]


def store_results(out: Path) -> list[Path]:
    """The result of a job that writes a store, named by its folder or its root file."""
    return [root_file(whole(out))]


def flow_results(out: Path) -> list[Path]:
    """The results of a training, the weights first."""
    flow = FlowFolder(out)
    return [flow.weights, flow.about, flow.history]


def calibration_results(out: Path) -> list[Path]:
    """The numbers of a calibration, and the ranks beside them."""
    return [out, root_file(PretrainedFolder(out.parent).ranks)]


def figure_results(out: Path) -> list[Path]:
    """The index of the figures, and the figures that are there."""
    index = out / FIGURE_INDEX
    return [index, *sorted(set(out.glob("[!.]*")) - {index})]
