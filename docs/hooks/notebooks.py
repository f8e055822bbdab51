"""The notebooks of docs/notebooks as pages: text, code, and what the cells printed and drew when
they were saved. A test runs them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page, and the images of its cells, for each notebook."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        title, *cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        images: list[bytes] = []
        parts = [
            "".join(title["source"]),
            f'<a href="{path.name}" download>Download this page as a notebook</a>',
            *(part for cell in cells for part in _cell(cell, path.stem, images)),
        ]
        page = f"notebooks/{path.stem}"
        files.append(File.generated(config, f"{page}.md", content="\n\n".join(parts)))
        for number, image in enumerate(images):
            files.append(File.generated(config, f"{page}-{number}.png", content=image))
    return files


def _cell(cell: dict[str, Any], name: str, images: list[bytes]) -> Iterator[str]:
    """The Markdown of a cell; images that it drew are appended to `images`."""
    text = "".join(cell["source"])
    if cell["cell_type"] != "code":
        yield text
        return
    yield f"```python\n{text}\n```"
    for output in cell["outputs"]:
        data = output.get("data", {"text/plain": output.get("text", "")})
        if "image/png" in data:
            yield f"![What the cell draws]({name}-{len(images)}.png)"
            images.append(base64.b64decode("".join(data["image/png"])))
        elif printed := "".join(data.get("text/plain", "")).rstrip():
            yield f"```text\n{printed}\n```"
