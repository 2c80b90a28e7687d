"""Values and gradients that are no numbers: found where values are read, by all ranks alike.

A gradient that is no number is mended before Adam sees it (`runtime.sums`), so one fault
does not spoil the weights, and its cause is still the only thing that is wrong when the
values are read.  How often that happened travels with the values, under names of its own,
and costs no look at the device more.  Only float16 is allowed to overflow now and then.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from sem2ct.runtime import checkpoint
from sem2ct.runtime.refusal import Refusal

MENDED = "mended "
"""Before the name of a phase: the share of its gradients that were mended; none may be."""
OVERFLOWED = "overflowed "
"""The same of a phase in float16, which may overflow, but not most of the time."""
MOST_OVERFLOWED = 0.5


def shown(values: Mapping[str, float]) -> dict[str, float]:
    """The values without the shares of mended gradients that are 0."""
    return {
        name: value
        for name, value in values.items()
        if value or not name.startswith((MENDED, OVERFLOWED))
    }


def require(
    values: Mapping[str, float],
    images_seen: int,
    *,
    causes: Mapping[str, str],
    advice: str,
    checkpoints: Path,
) -> None:
    """Ends a training that computes with what is no number.

    Args:
        values: Means or sums by name, the same on every rank, so that all end together.
        images_seen: Progress that they belong to.
        causes: Which phase of which network a value belongs to, and the setting that decides
            over it.
        advice: Which settings to change.
        checkpoints: Folder of checkpoints.

    Raises:
        Refusal: Naming the value, its cause, and the last good checkpoint.
    """
    for name, value in values.items():
        fault = _fault(name, value)
        if fault:
            last = checkpoint.newest(checkpoints)
            kept = "none yet" if last is None else last.name
            cause = causes.get(name, "")
            raise Refusal(
                f"{fault} before images={images_seen}; {advice} (and delete this run's folder), or"
                f" run again to go on from the last checkpoint ({kept}) if it was a passing fault"
                + f"; {cause}"
                * bool(cause)
            )


def _fault(name: str, value: float) -> str:
    if not math.isfinite(value):
        return f"{name} became {value}"
    if name.startswith(MENDED) and value > 0:
        return f"the gradients of the {name.removeprefix(MENDED)} became nan or inf"
    if name.startswith(OVERFLOWED) and value > MOST_OVERFLOWED:
        phase = name.removeprefix(OVERFLOWED)
        return f"most gradients of the {phase} overflowed in float16 (precision=mixed)"
    return ""
