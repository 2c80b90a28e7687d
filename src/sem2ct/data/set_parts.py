"""Sets told apart into parts, by what their stores say of each tile: style by style, say."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sem2ct.data.set_sources import ImageSet
from sem2ct.runtime.refusal import Refusal


def split(opened: Mapping[str, ImageSet], label: str, *, reference: str) -> dict[str, ImageSet]:
    """Makes a set of its own of the tiles of each style, or of each value of another label.

    Args:
        opened: The sets by name.
        label: Column of their stores.
        reference: Name of the set that stays whole.

    Returns:
        The sets by name: those without the label as they are, the parts of the others as
        "<name> <label> <value>".

    Raises:
        Refusal: If no set has the label.
    """
    found: dict[str, ImageSet] = {}
    for name, one in opened.items():
        column = one.labels.get(label)
        if column is None or name == reference:
            found[name] = one
            continue
        for value in np.unique(column):
            part = f"{name} {label} {value}"
            found[part] = _part(one, np.flatnonzero(column == value), part)
    if list(found) == list(opened):
        told = sorted({name for one in opened.values() for name in one.labels})
        raise Refusal(
            f"split_by={label}, but no set compared with {reference} tells the {label} of its"
            f" tiles (labels there are: {', '.join(told) or 'none'}); make its store with"
            " 'sem2ct synthesize styles=3', or set split_by=none"
        )
    return found


def _part(one: ImageSet, chosen: NDArray[np.int64], name: str) -> ImageSet:
    """Some tiles of a set, as a set."""
    return replace(
        one,
        name=name,
        read=lambda index: one.read(int(chosen[index])),
        frames=one.frames[chosen],
        available=len(chosen),
        labels={key: column[chosen] for key, column in one.labels.items()},
        grid="none",
        part=True,
    )
