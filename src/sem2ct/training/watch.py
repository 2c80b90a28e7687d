"""What a training is judged by while it runs: numbers, the best checkpoint, collapse.

The loop knows neither rocks nor networks; a stage hands it a `Watch`.  Every so many
images it measures, on rank 0, and all ranks get the numbers: they stand in the row of
values, decide which checkpoint is the best so far, and stop a training that has
collapsed before the collapsed state is saved.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem2ct.runtime import checkpoint, distributed
from sem2ct.runtime.refusal import Refusal


def _nothing() -> dict[str, float]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Watch:
    """When to measure, what, and what follows from it."""

    every: int = 0
    """Images between two measurements; 0 never measures."""
    measure: Callable[[], Mapping[str, float]] = _nothing
    """Returns numbers by name; called on rank 0 only."""
    best_by: str = "none"
    """Name of the number whose smallest value makes the best checkpoint."""
    spread: str = "none"
    """Name of the number that says how much samples differ, as a share of what real images do."""
    least_spread: float = 0.0
    """A smaller spread is a collapse."""
    collapse_after: int = 0
    """Images before which a small spread is no collapse yet."""
    advice: str = "lower learning_rate"
    """Which settings to change when the training diverges."""

    def values(self, images_seen: int, *, at_end: bool) -> dict[str, float]:
        """Measures if it is time to; the same numbers on every rank."""
        if not self.every or (images_seen % self.every and not at_end):
            return {}
        return distributed.from_main(self.measure)

    def require_spread(self, values: Mapping[str, float], images_seen: int, folder: Path) -> None:
        """Ends a training whose samples have become alike.

        Args:
            values: What `values` returned.
            images_seen: Progress that they belong to.
            folder: Folder of checkpoints.

        Raises:
            Refusal: Naming the last checkpoint and the settings to change.
        """
        spread = values.get(self.spread, math.inf)
        if images_seen >= self.collapse_after and not spread >= self.least_spread:
            last = checkpoint.newest(folder)
            kept = "no checkpoint was saved before" if last is None else f"{last} is the last good"
            raise Refusal(
                f"the samples have collapsed at images={images_seen}: they differ among themselves"
                f" by {spread:.3f} of what real tiles do, collapse_share={self.least_spread:g};"
                f" {kept}; to train anew, {self.advice} under another run="
            )


class Best:
    """The best checkpoint so far, by the smallest value of one number."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        """Goes on from the record of an earlier part of the run; empty at the beginning."""
        self.record = dict(record)

    def consider(self, values: Mapping[str, float], watch: Watch, images_seen: int) -> None:
        """Takes the checkpoint about to be saved if its number is smaller than all before."""
        value = values.get(watch.best_by, math.nan)
        if value < self.record.get("value", math.inf):
            name = checkpoint.name(images_seen)
            self.record = {"file": name, "by": watch.best_by, "value": value}
