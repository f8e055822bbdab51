"""`python -m pflow`."""

from __future__ import annotations

import os
import sys

from pflow.cli import main

if __name__ == "__main__":
    status = main()
    if status > 128:  # a signal: at an ordinary exit, interrupted asyncio tasks of Zarr would print their tracebacks
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
