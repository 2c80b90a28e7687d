"""Features of a network that lies on disk: the file that published distances were made with.

The file is TorchScript (inception-2015-12-05.pt, as published with StyleGAN2-ADA and
StyleGAN3) and is never downloaded.  It is called with (N, 3, H, W) uint8 and
`return_features=True`, and gives (N, 2048); it resizes by itself.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sem2ct.runtime.checkpoint import digest
from sem2ct.runtime.refusal import Refusal

FILE = "inception-2015-12-05.pt"
DIMENSION = 2048
BATCH = 16


class Features:
    """A feature network, opened.

    Attributes:
        facts: file, sha256, dimension: to be printed beside every distance.
    """

    def __init__(self, path: str | Path, device: torch.device) -> None:
        """Opens a file.

        Args:
            path: TorchScript file.
            device: Where it runs.

        Raises:
            Refusal: If the file is absent, or no such network.
        """
        self._path, self._device = Path(path), device
        if not self._path.is_file():
            raise Refusal(
                f"features={path}: no such file; name a local copy of {FILE}, or set features=none"
            )
        self._network = self._opened()
        probe = self._called(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
        if tuple(probe.shape) != (2, DIMENSION):
            raise Refusal(
                f"features={path}: gives {tuple(probe.shape)} for two images, but {FILE} gives"
                f" (2, {DIMENSION}); name that file, or set features=none"
            )
        self.facts: dict[str, Any] = {
            "file": self._path.name,
            "sha256": digest(self._path),
            "dimension": DIMENSION,
        }

    def of(
        self,
        read: Callable[[int], NDArray[np.uint8]],
        count: int,
        *,
        on_tile: Callable[[], object],
    ) -> NDArray[np.float32]:
        """Features of tiles 0 to count - 1.

        Args:
            read: Gives the (H, W) tile of a number.
            count: Tiles.
            on_tile: Called after each tile.

        Returns:
            (count, 2048).
        """
        rows = []
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            grey = torch.from_numpy(np.stack([read(number) for number in numbers]))
            rows.append(self._called(grey[:, None].repeat(1, 3, 1, 1)).float().cpu().numpy())
            for _ in numbers:
                on_tile()
        return np.concatenate(rows)

    def _opened(self) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TorchScript is old, and torch says so
                return torch.jit.load(str(self._path), map_location=self._device).eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise Refusal(
                f"features={self._path}: not a TorchScript file ({_first_line(error)}); name a"
                f" local copy of {FILE}, or set features=none"
            ) from error

    def _called(self, images: torch.Tensor) -> torch.Tensor:
        try:
            with torch.inference_mode():
                return self._network(images.to(self._device), return_features=True)
        except (RuntimeError, TypeError) as error:
            raise Refusal(
                f"features={self._path}: cannot be asked for features ({_first_line(error)}); name"
                f" a local copy of {FILE}, or set features=none"
            ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:120] if lines else type(error).__name__
