"""A UM-Bridge server in a process of its own: `python -m tests.support.umbridge_server PORT`.

Models:
    forward     (a, b), (c) -> (k (a^3 + b), k b c), (k sin c), with `scale` k in its configuration
    values      the same without a gradient
    tangents    the same with a gradient and the Jacobian's action on a direction
    directions  the same with the Jacobian's action alone
    holes       as `values`, answers NaN and infinity where |a| > 50
    wrong       as `directions`, with a wrong sign in one entry of the Jacobian
    moody       raises an exception for a > 50, sleeps for b > 50, ends the server for c > 50 once
    linear      (a, b) -> (a + b, a - b, k a), with its gradient
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start(port: int, folder: Path) -> subprocess.Popen:
    """A server process; `folder` is where it notes that it has ended once."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.umbridge_server", str(port), str(folder)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The URL of a server that answers."""
    port = free_port()
    process = start(port, folder)
    try:
        for _ in range(300):
            with socket.socket() as client:
                if client.connect_ex(("localhost", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://localhost:{port}"
    finally:
        process.kill()
        process.wait()


def main(port: int, folder: Path) -> None:
    import umbridge

    class Forward(umbridge.Model):
        has_gradient, has_jacobian = True, False

        def get_input_sizes(self, config):
            return [2, 1]

        def get_output_sizes(self, config):
            return [2, 1]

        def __call__(self, inputs, config):
            (a, b), (c,) = inputs
            k = config.get("scale", 1.0)
            return [[k * (a**3 + b), k * b * c], [k * math.sin(c)]]

        def jacobian(self, output, i, inputs, config):
            (a, b), (c,) = inputs
            k = config.get("scale", 1.0)
            blocks = {
                (0, 0): [[3 * a * a, 1], [0, c]],
                (0, 1): [[0], [b]],
                (1, 0): [[0, 0]],
                (1, 1): [[math.cos(c)]],
            }
            return [[k * value for value in row] for row in blocks[output, i]]

        def gradient(self, output, i, inputs, sens, config):
            rows = self.jacobian(output, i, inputs, config)
            return [sum(v * s for v, s in zip(column, sens)) for column in zip(*rows)]  # noqa: B905

        def apply_jacobian(self, output, i, inputs, vec, config):
            rows = self.jacobian(output, i, inputs, config)
            return [sum(v * d for v, d in zip(row, vec)) for row in rows]  # noqa: B905

        def supports_evaluate(self):
            return True

        def supports_gradient(self):
            return self.has_gradient

        def supports_apply_jacobian(self):
            return self.has_jacobian

    class Values(Forward):
        has_gradient = False

    class Tangents(Forward):
        has_jacobian = True

    class Directions(Values):
        has_jacobian = True

    class Wrong(Directions):
        def jacobian(self, output, i, inputs, config):
            rows = super().jacobian(output, i, inputs, config)
            return [[-v for v in row] for row in rows] if (output, i) == (1, 1) else rows

    class Moody(Forward):
        def __call__(self, inputs, config):
            (a, b), (c,) = inputs
            if a > 50:
                raise ValueError("no convergence")
            if b > 50:
                time.sleep(3)
            if c > 50 and not (folder / "ended").exists():
                (folder / "ended").touch()
                os._exit(1)
            return super().__call__(inputs, config)

    class Holes(Forward):
        def __call__(self, inputs, config):
            answer = super().__call__(inputs, config)
            if inputs[0][0] > 50:
                answer[0] = [math.nan, math.inf]
            if inputs[0][0] < -50:
                answer[0] = [Null(), -math.inf]
            return answer

    class Null(float):
        def __repr__(self):
            return "null"  # what servers in C++ write for NaN

    class Short(Forward):
        def __call__(self, inputs, config):
            return [[0.0], [0.0]]

    class Linear(umbridge.Model):
        def get_input_sizes(self, config):
            return [2]

        def get_output_sizes(self, config):
            return [3]

        def __call__(self, inputs, config):
            ((a, b),) = inputs
            return [[a + b, a - b, config.get("scale", 1.0) * a]]

        def gradient(self, output, i, inputs, sens, config):
            u, v, w = sens
            return [u + v + config.get("scale", 1.0) * w, u - v]

        def supports_evaluate(self):
            return True

        def supports_gradient(self):
            return True

    models = [
        Forward("forward"),
        Values("values"),
        Tangents("tangents"),
        Directions("directions"),
        Wrong("wrong"),
        Moody("moody"),
        Holes("holes"),
        Short("short"),
        Linear("linear"),
    ]
    umbridge.serve_models(models, port, max_workers=4, error_checks=False)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
