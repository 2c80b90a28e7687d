"""Names that count: natural order, and the numbers missing from a folder of slices."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence

_PARTS = re.compile(r"(\d+)")


def natural(name: str) -> list[tuple[int, str]]:
    """Key that sorts names as people count: 2 before 10.

    Args:
        name: A name or a path.

    Returns:
        Something to compare with the key of another name.
    """
    parts = _PARTS.split(name)
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in parts]


def missing(names: Sequence[str]) -> list[str]:
    """Names that a numbered series has gaps for.

    Args:
        names: Sorted; a series if they differ in one number only.

    Returns:
        The names expected between the first and the last, in the step that most of them
        have; empty if nothing is missing or the names are no series.
    """
    split = [_PARTS.split(name) for name in names]
    if len(split) < 3 or len({len(parts) for parts in split}) > 1:
        return []
    varying = [k for k, column in enumerate(zip(*split, strict=True)) if len(set(column)) > 1]
    if len(varying) != 1 or not varying[0] % 2:
        return []
    place = varying[0]
    numbers = [int(parts[place]) for parts in split]
    steps = Counter(after - before for before, after in itertools.pairwise(numbers))
    step = min(steps, key=lambda step: (-steps[step], step))
    if step < 1 or len(steps) == 1 or (numbers[-1] - numbers[0]) // step > 10 * len(numbers):
        return []
    width = len(split[0][place])
    lost = sorted(set(range(numbers[0], numbers[-1], step)) - set(numbers))
    before, after = "".join(split[0][:place]), "".join(split[0][place + 1 :])
    return [f"{before}{number:0{width}d}{after}" for number in lost]
