"""Seismic images of your own: different patches of a file in random order, each with mean 0 and
variance 1.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pflow.errors import PflowError
from pflow.storage.image_patches import ImagePatches, Split

__all__ = ["ImageFile", "Split"]


class ImageFile(ImagePatches):
    """`ImagePatches` to draw from."""

    def draw(
        self, n: int, split: Split, rows: tuple[int, int], generator: torch.Generator | None = None
    ) -> Float[Tensor, "n height width"]:
        """n different patches of a part of the file, in random order, each with mean 0 and variance
        1; those that `ImagePatches` leaves out excepted.

        Arguments:
            n: number of patches.
            split: the part of the file.
            rows: first row and the row after the last, of the depths that patches may touch.
            generator: of the order; None for torch's own.

        Raises:
            PflowError: for rows outside of the file, or too few patches.
        """
        places = self.places(split, rows)
        order = torch.randperm(len(places), generator=generator).tolist()
        patches: list[np.ndarray] = []
        while order and len(patches) < n:
            wanted, order = order[: n - len(patches)], order[n - len(patches) :]
            patches += [
                (patch - patch.mean()) / patch.std()
                for patch in self.read([places[i] for i in wanted])
                if patch is not None
            ]
        if len(patches) < n:
            raise PflowError(
                f"{self.path} gives {len(patches)} {split} images of {self.height} x {self.width}"
                f" at rows {rows[0]} to {rows[1]}, and {n} are wanted: lower `problem.stride`"
                f" (={self.stride}), widen the rows, or ask for fewer in `simulate`"
            )
        return torch.from_numpy(np.stack(patches))
