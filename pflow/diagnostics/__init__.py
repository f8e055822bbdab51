"""Diagnostics of posteriors: from arrays to numbers, without flows, problems or files.

Throughout, x_i are draws of the approximation q, p~ is the unnormalised posterior, p the normalised
one, and

    log_weight_i = log p~(x_i) - log q(x_i)
"""

from __future__ import annotations
