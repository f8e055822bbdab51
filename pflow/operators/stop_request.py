"""Whether this process was asked to stop.

A signal that is put off until a step is finished is seen here by whatever waits for something
outside the process, such as a server that cannot be reached, in any thread: it waits no longer.
"""

from __future__ import annotations

import threading

__all__ = ["STOP_REQUESTED"]

STOP_REQUESTED = threading.Event()
