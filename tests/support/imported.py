"""Which modules a program has imported by its end, in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imported_by(program: str, folder: Path = ROOT) -> set[str]:
    """Names of modules, as `sys.modules` has them."""
    show = "import sys; print('\\n', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{show}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    return set(done.stdout.splitlines()[-1].split())
