"""Gives settings every kind of value: a dry run answers, or the command is refused by name.

    .venv/bin/python scripts/dev/fuzz_settings.py [stage ...] [--examples 2000] [--outputs FOLDER]

Six runs of size=tiny are made (in FOLDER, where they stay); they are what dry runs read.  Each
example replaces one to four settings of a stage by values that its type allows or forbids, and
asks for a dry run in a child process with limits of memory and time.  Faults are: any error but a
`Refusal`, a refusal that names no setting of the stage or has several lines, a crash.  An example
that takes longer than the limit is counted as slow.  Ends with 1 if there was a fault.
"""

import argparse
import contextlib
import io
import re
import sys
import tempfile
import time
import types
import typing
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import hypothesis
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_readers
from fuzz_files import NASTY, RUN, prepare, settings

from sem2ct import cli, config
from sem2ct.runtime.refusal import Refusal

SIDES = [-1, 0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 24, 32, 33, 48, 64]
LARGE = [100, 1000, 4096, 10**5, 10**6, 2**31 - 1, 2**31, 2**63]
WORDS = ["none", "all", "toy", "nowhere", ".", "..", "~", "*", "[", "x\0y", "a\nb", "\udc80"]
WORDS += ["x" * 300]
SECONDS = 60
# A dry run writes nothing, so these say nothing of it.
LEFT_ALONE = {"run_root", "dry_run"}


def values(kind: Any, *, large: bool) -> st.SearchStrategy[Any]:
    """Values of a setting's type, and some that only look so.

    Args:
        kind: Annotation of the setting.
        large: Whether numbers may be so large that memory or time do not suffice.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return values(parts[0], large=large)
    if origin is Literal:
        return st.sampled_from(parts)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([values(part, large=large) for part in parts])
    if origin is tuple:
        ends = parts[:1] if parts[-1] is Ellipsis else parts
        return st.tuples(*(values(part, large=large) for part in ends)).map(list)
    if origin is dict:
        return st.dictionaries(
            st.sampled_from(["real", "synthetic", "noise", *WORDS]),
            values(parts[1], large=large),
            max_size=2,
        )
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.sampled_from(SIDES + LARGE if large else SIDES)
    if kind is float:
        small = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 50.0, 99.9, 100.0])
        return small | st.floats(allow_nan=True)
    return st.sampled_from(WORDS)


def examples(stage: str, base: dict[str, Any], *, large: bool) -> st.SearchStrategy[dict[str, Any]]:
    """Overrides of one to four settings of a stage.

    Args:
        stage: With underscores.
        base: Its settings as plain values; what another setting holds is tried too.
        large: As for `values`.
    """
    fields = config.MODELS[stage].model_fields
    taken = st.sampled_from([value for name, value in base.items() if name not in LEFT_ALONE])

    def one(name: str) -> st.SearchStrategy[tuple[str, Any]]:
        own = values(fields[name].annotation, large=large)
        # Three of four are of the right type, so that cross-checks and dry runs are reached.
        mixed = st.one_of(own, own, own, own, own, own, taken, st.sampled_from(NASTY + WORDS))
        return mixed.map(lambda value: (name, value))

    names = sorted(set(fields) - LEFT_ALONE)
    chosen = st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True)
    return chosen.flatmap(lambda some: st.tuples(*map(one, some))).map(dict)


def ask(command: str, base: dict[str, Any], given: dict[str, Any]) -> str:
    """Asks for a dry run.

    Args:
        command: The stage.
        base: Settings with which it answers.
        given: Replaces some of them.

    Returns:
        "answered" or "refused".

    Raises:
        AssertionError: If the refusal names no setting, or is not one line.
        Exception: Whatever else came of it: a fault.
    """
    said, reason = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            cli.start(command, {**base, **given, "dry_run": True})
    except Refusal as refusal:
        reason = str(refusal)
    if not reason:
        return "answered"
    named = re.search(rf"\b({'|'.join(base)})\b", reason)
    assert named, f"names no setting: {reason}"
    assert "\n" not in reason, f"several lines: {reason}"
    return "refused"


def campaign(command: str, base: dict[str, Any], count: int) -> Counter[str]:
    """Asks for many dry runs of one stage; every fault is counted and printed once."""
    stage = command.replace("-", "_")
    counted: Counter[str] = Counter()
    child = fuzz_readers.Child(lambda given: _answered(ask(command, base, given)), seconds=SECONDS)  # type: ignore[arg-type]

    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(given=examples(stage, base, large=True))
    def go(given: dict[str, Any]) -> None:
        said = child.look(given)  # type: ignore[arg-type]
        words = said.strip().splitlines()[-1][:140]
        if words not in counted and words not in ("read", "refused", "hang"):
            where = [line.strip() for line in said.splitlines() if "sem2ct/" in line][-1:]
            print(f"    {command} {given}: {words} {where}", flush=True)
        counted[words] += 1

    go()
    child.end()
    return counted


def _answered(said: str) -> None:
    if said == "refused":
        raise Refusal(said)


def main() -> None:
    """Asks all stages, or those named."""
    parser = argparse.ArgumentParser(description="Gives settings every kind of value.")
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("stages", nargs="*")
    parser.add_argument("--outputs", type=Path)
    given = parser.parse_args()
    stages, faults = given.stages or list(cli.STAGES), 0
    with tempfile.TemporaryDirectory() as place:
        root = given.outputs or Path(place)
        prepare(root)
        print(fuzz_readers.HEADER)
        for command in stages:
            begun, base = time.monotonic(), settings(root, command, f"run={RUN}")
            counted = campaign(command, base, max(1, given.examples // len(stages)))
            slow = counted.pop("hang", 0)
            faults += fuzz_readers.tell(command, counted, time.monotonic() - begun)
            print(f"    {slow} more took longer than {SECONDS} s", flush=True)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
