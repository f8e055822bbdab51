"""Pictures in PNG format, encoded without a library."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

__all__ = ["noisy_png", "png"]

GREY, COLOUR = 0, 2  # colour types of the format


def png(path: Path, width: int = 30, height: int = 20) -> None:
    """Write a grey picture."""
    lines = b"".join(b"\0" + b"\x7f" * width for _ in range(height))
    _write(path, width, height, GREY, zlib.compress(lines))


def noisy_png(path: Path, generator: random.Random, size: int) -> None:
    """Write a square of random colours, which no compression makes smaller."""
    lines = b"".join(b"\0" + generator.randbytes(3 * size) for _ in range(size))
    _write(path, size, size, COLOUR, zlib.compress(lines, 0))


def _write(path: Path, width: int, height: int, colour_type: int, pixels: bytes) -> None:
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", pixels)
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
