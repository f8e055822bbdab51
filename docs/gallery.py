"""The gallery, docs/gallery.md with docs/images/gallery, from the results of the default run: `make
run`, then `make gallery`.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import yaml
from PIL import Image

from pflow.report.ranking import other_priors

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs/images/gallery"
SHOWN = {
    "rosenbrock": (
        "posterior",
        "best_marginals",
        "best_pairs",
        "best_prediction",
        "accuracy",
        "calibration",
        "pretraining",
    ),
    "darcy": ("best_maps", "best_draws", "best_coverage", "best_spectra", "moments"),
    "traveltime": ("best_maps", "fields", "best_coverage", "best_prediction", "moments"),
    "seismic": (
        "best_maps",
        "best_draws",
        "best_coverage",
        "best_spectra",
        "fields",
        "best_prediction",
    ),
}
INTRODUCTION = """# Gallery

Figures that the default run, `make run`, makes of its four experiments. [The report](report.md)
shows them all, with the evidence for each verdict. `make gallery` writes this page.
"""


def main(results: Path) -> None:
    """Copy the figures with few colours, and write the page with their captions."""
    experiments = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["experiments"]
    shutil.rmtree(IMAGES, ignore_errors=True)
    IMAGES.mkdir(parents=True)
    sections = [INTRODUCTION]
    for name, figures in SHOWN.items():
        folder, experiment = results / name / "figures", experiments[name]
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        observation, best = next(iter(index["best"].items()))
        label = experiment["finetune"][best["method"]].get("label", best["method"])
        others = other_priors(experiment["finetune"], experiment.get("prior"))
        under = " under the experiment's prior" if others else ""
        sections.append(
            f"## {experiment['title']}\n\n{experiment['question'].strip()} Of the methods at the"
            f" observation `{observation}`{under}, *{label}* has the best verdict:"
            f" **{best['verdict']}**.\n"
        )
        for figure in figures:
            image = f"{name}-{figure}.png"
            copy(folder / f"{figure}.png", IMAGES / image)
            title = f"{figure.removeprefix('best_')} of {name}"
            sections.append(f"![{title}](images/gallery/{image})\n")
            sections.append(f"*{index['captions'][figure]}*\n")
    (ROOT / "docs/gallery.md").write_text("\n".join(sections), encoding="utf-8")


def copy(figure: Path, image: Path) -> None:
    """A figure with a palette of its own, a third of the size."""
    with Image.open(figure) as opened:
        few = opened.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(image, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
