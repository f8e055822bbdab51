"""figures: every figure of one experiment, drawn from its stores alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pflow.config.jobs import FiguresJobSettings
from pflow.diagnostics.calibration import uniformity
from pflow.figures.calibration import RankCurve, rank_curves
from pflow.figures.curves import pretraining_curves
from pflow.figures.style import save
from pflow.report.ranking import shown_observations
from pflow.stages.io.best_posterior import draw_best_posterior
from pflow.stages.io.observation_figures import ObservationFigures
from pflow.stages.io.observation_results import read_metrics, read_observation_results
from pflow.storage.layout import ExperimentFolder, PretrainedFolder
from pflow.storage.store import read_arrays, replacing
from pflow.storage.text_files import read_csv, write_json

__all__ = ["figures"]


def figures(
    settings: FiguresJobSettings,
    record: dict[str, Any],
    *,
    results: Path,
    out: Path,
    threads: int = 1,
) -> None:
    """Write PNG (and SVG for line plots) into the folder `out`, and index.json with their
    captions and what it is that the report shows of each observation's best posterior.
    """
    captions: dict[str, str] = {}
    best: dict[str, dict[str, Any]] = {}
    folder = ExperimentFolder(results)
    with replacing(out) as temporary:
        temporary.mkdir()

        def keep(name: str, figure: Any, caption: str, svg: bool = False) -> None:
            save(figure, temporary / f"{name}.png", svg=svg)
            captions[name] = caption

        several, others = len(settings.observations) > 1, settings.other_priors or []
        for observation in shown_observations(read_metrics(settings, folder), others):
            found = read_observation_results(settings, folder, observation)
            suffix = f"_{observation}" if several else ""
            best[observation] = draw_best_posterior(keep, found, settings.figures, suffix, others)
            of = f" for observation {observation}" if several else ""
            ObservationFigures(keep, found, settings.methods, suffix, of).draw(folder)
        keep(
            "calibration",
            rank_curves({flow: _rank_curves(folder.pretrained(flow)) for flow in settings.flows}),
            "Calibration of each pretrained flow over held-out pairs, those of high fidelity where"
            " there are some, otherwise of low fidelity: where the truth ranks among draws. Inside"
            " the grey band is as expected; above zero on the left and below it on the right means"
            " that the flow is too sure of itself.",
            svg=True,
        )
        training = {
            flow: read_csv(
                folder.pretrained(flow).history, "step", "epoch", "loss", "validation_loss"
            )
            for flow in settings.flows
        }
        keep(
            "pretraining",
            pretraining_curves(training),
            "Stage 1: training and validation loss of each flow.",
            svg=True,
        )
        write_json(temporary / folder.figure_index.name, {"captions": captions, "best": best})


def _rank_curves(flow: PretrainedFolder) -> dict[str, RankCurve]:
    arrays, attributes = read_arrays(flow.ranks, ("ranks",))
    tests = {
        name: uniformity(rank, attributes["draws"])
        for name, rank in zip(attributes["quantities"], arrays["ranks"].T, strict=True)
    }
    return {
        name: RankCurve(test.at, test.empirical, test.low, test.high)
        for name, test in tests.items()
    }
