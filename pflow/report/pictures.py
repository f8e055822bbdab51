"""Figures for the page: embedded in full size, or as thumbnails if there are too many."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pflow.storage.origins import require_unchanged

__all__ = ["figures", "picture", "shrink"]

# Bytes of PNG on the whole page; base64 makes them 10.5 MB, tables of many runs take some more, and
# mail servers refuse more than 15.
ROOM = 15 * 2**19
THUMBNAILS = (
    560,
    300,
    160,
)  # pixels wide; the next one where all of the one before are still too many


def figures(folder: Path, captions: Mapping[str, str]) -> list[dict[str, Any]]:
    """All PNG figures, those with a caption first, in the order of the captions."""
    files = {file.stem: file for file in sorted(folder.glob("*.png"))} if folder.is_dir() else {}
    order = [name for name in captions if name in files] + [
        name for name in files if name not in captions
    ]
    return [
        picture(files[name], captions.get(name) or name.replace("_", " ").capitalize())
        for name in order
    ]


def shrink(pictures: list[dict[str, Any]], room: int = ROOM) -> None:
    """Replace pictures by thumbnails, the last ones of the page first, until all fit into `room`
    bytes.
    """
    total = sum(len(shown["content"]) for shown in pictures)
    for width in THUMBNAILS:
        for shown in reversed(pictures):
            if total <= room:
                return
            small = _thumbnail(shown["content"], width)
            if len(small) < len(shown["content"]):
                total -= len(shown["content"]) - len(small)
                shown |= {
                    "content": small,
                    "data": base64.b64encode(small).decode(),
                    "thumbnail": True,
                }


def picture(file: Path, caption: str) -> dict[str, Any]:
    """A PNG file as the template shows it.

    Raises:
        PflowError: the file was changed after its job wrote it.
    """
    require_unchanged(file)
    content = file.read_bytes()
    size = (
        int.from_bytes(content[16:20], "big"),
        int.from_bytes(content[20:24], "big"),
    )  # of the PNG header
    place = Path(*file.parts[-3:]).as_posix()
    data = base64.b64encode(content).decode()
    return {
        "name": file.stem,
        "caption": caption,
        "width": size[0],
        "height": size[1],
        "data": data,
        "content": content,
        "thumbnail": False,
        "place": place,
    }


def _thumbnail(content: bytes, width: int) -> bytes:
    from PIL import Image  # comes with matplotlib; only pages with very many figures need it

    with Image.open(io.BytesIO(content)) as picture:
        small = picture.convert("RGB")
        small.thumbnail((width, width))
        written = io.BytesIO()
        small.quantize(64).save(written, "PNG", optimize=True)
    return written.getvalue()
