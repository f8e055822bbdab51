"""`python -m pflow`."""

from __future__ import annotations

import sys

from pflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
